package main

import (
	"fmt"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kind is one kind of pods of the driver: with a request, with a wrong one, or with none. Keys are literals, as in all
// tests of the whole system.
type kind struct {
	name string
	// place is one of the namespaces of each fault; see places.
	place string
	// annotations of the nth pod of the soak.
	annotations func(n int) map[string]string
	// refused is a part of the refusal of a wrong request. It is empty if the pod has to be admitted.
	refused string
	// fresh pods have a key that no pod has had.
	fresh bool
	// limited pods are refused only beyond a limit.
	limited bool
	// quiet pods request nothing, and must not be changed.
	quiet bool
	// life is how long the pod stays after its objects exist. 0 is until the end.
	life time.Duration
	// tenant pods have a namespace of their own, which is deleted at the end of their life.
	tenant bool
}

// places are the namespaces of a fault, with their labels and annotations.
var places = map[string]*metav1.ObjectMeta{
	"names":     {Labels: map[string]string{"istio-injection": "enabled"}},
	"addresses": {Labels: map[string]string{"istio-injection": "enabled"}},
	"inherits": {
		Labels:      map[string]string{"istio-injection": "enabled", "redis-tls/injection": "enabled"},
		Annotations: map[string]string{"redis-tls/host": "inherited.example.com", "redis-tls/ca-configmap": "redis-ca"},
	},
	"flood": {Labels: map[string]string{"istio-injection": "enabled"}},
	"quiet": {},
}

// short is the life of pods that come and go.
const short = 8 * time.Second

// mix is the cycle of pods that the driver creates.
var mix = []kind{
	byName(0),
	byAddress(short),
	mutual(short),
	newHost(short),
	inherits(short),
	byName(short),
	wrong("a wildcard", "host", "*.example.com"),
	newAddress(short),
	byName(short),
	quiet(),
	byAddress(short),
	severalPorts(short),
	byName(short),
	newHost(short),
	wrong("a forbidden address", "addresses", "127.0.0.1"),
	byAddress(0),
	inherits(0),
	newHost(short),
	wrong("an unknown mode", "mode", "tls"),
	mutual(0),
	quiet(),
	newAddress(short),
	byName(short),
	inherits(short),
	wrong("an invalid port", "port", "70000"),
}

func fixed(annotations ...string) func(int) map[string]string {
	return func(int) map[string]string { return keys(annotations...) }
}

// keys returns annotations with the prefix of redis-tls.
func keys(pairs ...string) map[string]string {
	all := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		all["redis-tls/"+pairs[i]] = pairs[i+1]
	}
	return all
}

func byName(life time.Duration) kind {
	return kind{
		name:        "by name",
		place:       "names",
		life:        life,
		annotations: fixed("host", "redis.example.com", "ca-secret", "redis-ca"),
	}
}

// mutual has other TLS settings for the same host, and so its own rule.
func mutual(life time.Duration) kind {
	return kind{name: "mutual", place: "names", life: life,
		annotations: fixed(
			"host", "redis.example.com", "mode", "mutual", "ca-secret", "redis-ca", "client-secret", "redis-client",
		)}
}

func severalPorts(life time.Duration) kind {
	return kind{name: "several ports", place: "names", life: life,
		annotations: fixed("host", "cache.example.com", "port", "6379,26379", "ca-configmap", "redis-ca")}
}

// byAddress has no VIP, so it is gated until its objects exist. All pods of one address come and go, and those of the
// other stay.
func byAddress(life time.Duration) kind {
	address := "10.20.30.40"
	if life == 0 {
		address = "10.20.30.41"
	}
	return kind{name: "by address", place: "addresses", life: life,
		annotations: fixed("addresses", address, "port", "6378", "ca-secret", "redis-ca")}
}

func newHost(life time.Duration) kind {
	return kind{name: "new host", place: "names", life: life, fresh: true, annotations: func(n int) map[string]string {
		return keys("host", fmt.Sprintf("redis-%d.example.com", n), "ca-secret", "redis-ca")
	}}
}

func newAddress(life time.Duration) kind {
	annotations := func(n int) map[string]string {
		return keys("addresses", fmt.Sprintf("10.30.%d.%d", n>>8&255, n&255), "ca-secret", "redis-ca")
	}
	return kind{name: "new address", place: "addresses", life: life, fresh: true, annotations: annotations}
}

func inherits(life time.Duration) kind {
	return kind{name: "inherited", place: "inherits", life: life, annotations: fixed()}
}

// wrong is a pod with a host and one wrong key.
func wrong(name, key, value string) kind {
	refused := "metadata.annotations[redis-tls/" + key + "]"
	return kind{name: "wrong: " + name, place: "names", refused: refused, annotations: func(int) map[string]string {
		all := keys("host", "redis.example.com", "ca-secret", "redis-ca")
		maps.Copy(all, keys(key, value))
		return all
	}}
}

func quiet() kind {
	return kind{name: "quiet", place: "quiet", quiet: true, life: short, annotations: fixed()}
}

// pod returns the nth pod of the soak.
func (k *kind) pod(namespace string, n int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("p-%d", n), Annotations: k.annotations(n)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
}

// touched returns what has changed in a quiet pod, or what another pod lacks. It is empty if there is nothing.
func (k *kind) touched(p *corev1.Pod) string {
	if !k.quiet {
		switch {
		case p.Labels["redis-tls/injected"] != "true":
			return "the label redis-tls/injected is missing"
		case k.place != "addresses" && len(p.Spec.HostAliases) == 0:
			return "it has no VIP"
		}
		return ""
	}
	for key := range p.Labels {
		if strings.Contains(key, "redis-tls/") {
			return "it has the label " + key
		}
	}
	if len(p.Annotations)+len(p.Spec.HostAliases)+len(p.Spec.SchedulingGates) > 0 {
		return fmt.Sprintf(
			"it has annotations %v, hostAliases %v, gates %v", p.Annotations, p.Spec.HostAliases, p.Spec.SchedulingGates,
		)
	}
	return ""
}
