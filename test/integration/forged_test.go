package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/google/go-cmp/cmp"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// marks are the labels and annotations that only the webhook writes.
type marks struct{ labels, annotations map[string]string }

// forged returns marks of a pod of the namespace, with another request and the given VIP.
func (c *cluster) forged(namespace string, as, request map[string]string, vip string) marks {
	c.t.Helper()
	p, _, err := c.create(pod(namespace, "template", as), client.DryRunAll)
	c.must(err)
	status, err := json.Marshal(map[string]any{"version": "v1", "request": request})
	c.must(err)
	m := marks{
		labels:      map[string]string{},
		annotations: map[string]string{statusKey: string(status), vipsKey: as["redis-tls/host"] + "=" + vip},
	}
	for key, value := range p.Labels {
		if strings.HasPrefix(key, "redis-tls/") {
			m.labels[key] = value
		}
	}
	return m
}

// on returns the pod with the marks added to its own annotations.
func (m marks) on(p *corev1.Pod) *corev1.Pod {
	p.Labels = maps.Clone(m.labels)
	annotations := maps.Clone(m.annotations)
	maps.Copy(annotations, p.Annotations)
	p.Annotations = annotations
	return p
}

// marksOf returns the marks of a pod.
func marksOf(p *corev1.Pod) (found []string) {
	for key := range p.Labels {
		if strings.HasPrefix(key, "redis-tls/") {
			found = append(found, key)
		}
	}
	for _, key := range []string{statusKey, vipsKey, firstUseKey} {
		if _, is := p.Annotations[key]; is {
			found = append(found, key)
		}
	}
	return found
}

// testForgedMarks creates pods with forged marks. Pods that the webhook skips or tolerates are admitted without them.
// Pods that it is not called for are refused by the guard. The forged request is for another tenant's Service, and the
// VIP is a neighbour's.
func testForgedMarks(c *cluster, user client.Client, ns string) {
	neighbour := c.entryOf("honest", "redis.example.com")
	evil := map[string]string{"redis-tls/addresses": clusterIP, "redis-tls/ca-secret": "redis-ca"}
	vip := neighbour.Spec.Addresses[0]
	m := c.forged(ns, requesting(), evil, vip)

	for name, p := range map[string]*corev1.Pod{
		"status-only": pod(ns, "status-only", map[string]string{statusKey: m.annotations[statusKey]}),
		"vips-only":   pod(ns, "vips-only", map[string]string{vipsKey: m.annotations[vipsKey]}),
		"all":         m.on(pod(ns, "all", nil)),
		"opted-out": m.on(pod(ns, "opted-out", map[string]string{
			"redis-tls/host":   "redis.example.com",
			"redis-tls/inject": "false",
		})),
	} {
		if err := user.Create(c.t.Context(), p); err == nil || !strings.Contains(err.Error(), "redis-tls-guard") {
			c.t.Errorf("%s: error %v", name, err)
		}
	}

	opted := map[string]string{"redis-tls/injection": "enabled"}
	empty := c.namespace("forged-opted-in", opted, nil)
	inherits := c.namespace("forged-inherits", opted, requesting())
	host := m.on(pod(inherits, "tolerated", nil))
	host.Spec.HostNetwork = true
	labelled := m.on(pod(ns, "labelled", map[string]string{"redis-tls/host": ""}))
	labelled.Labels["redis-tls/egress-0123456789abcdef"], labelled.Labels["redis-tls/server"] = "true", "strict"
	for name, p := range map[string]*corev1.Pod{
		"that requests nothing by an empty host":     labelled,
		"without a key in a namespace that opted in": m.on(pod(empty, "keyless", nil)),
		"on its node's network, which only inherits": host,
		"with an alias of the VIP, and an empty host": aliased(
			m.on(pod(ns, "aliased", map[string]string{"redis-tls/host": ""})), vip,
		),
	} {
		as := user
		if p.Namespace != ns {
			as = c.podCreator(p.Namespace)
		}
		if err := as.Create(c.t.Context(), p); err != nil {
			c.t.Errorf("a pod %s: %v", name, err)
		} else if found := marksOf(p); len(found) > 0 {
			c.t.Errorf("a pod %s was admitted with %q", name, found)
		}
	}
	c.wantOnlyHonest(ns, 2)
	for _, namespace := range []string{empty, inherits} {
		if found := c.meshObjectsIn(namespace); len(found) > 0 {
			c.t.Errorf("in %s there are %q", namespace, names(found))
		}
	}
	c.wantUntouched(neighbour)
}

// aliased returns the pod with a host alias.
func aliased(p *corev1.Pod, vip string) *corev1.Pod {
	p.Spec.HostAliases = []corev1.HostAlias{{IP: vip, Hostnames: []string{"redis.example.com"}}}
	return p
}

// testForgedRequest creates a pod that requests TLS and has forged marks. It gets its own marks and its own VIP
// instead.
func testForgedRequest(c *cluster) {
	neighbour := c.entryOf("honest", "redis.example.com")
	own := c.namespace("forged", nil, nil)
	m := c.forged(
		own, requesting(), map[string]string{"redis-tls/host": "kubernetes.default.svc"}, neighbour.Spec.Addresses[0],
	)
	m.labels["redis-tls/to-0123456789abcdef"] = "true"
	p := aliased(m.on(pod(own, "p", requesting())), neighbour.Spec.Addresses[0])
	c.must(c.podCreator(own).Create(c.t.Context(), p))
	if got := originations(c.t, p); got != "redis.example.com:6379/redis-ca" {
		c.t.Errorf("the status of a pod that requests TLS has %q", got)
	}
	if _, kept := p.Labels["redis-tls/to-0123456789abcdef"]; kept {
		c.t.Errorf("labels %v", p.Labels)
	}
	entry := c.entryOf(own, "redis.example.com")
	if diff := cmp.Diff(entry.Spec.Addresses, vips(p, "redis.example.com")); diff != "" ||
		entry.Spec.Addresses[0] == neighbour.Spec.Addresses[0] {
		c.t.Errorf(
			"the neighbour has the VIP %s; of the entry and the pod (-entry +pod):\n%s", neighbour.Spec.Addresses[0], diff,
		)
	}
	c.wantUntouched(neighbour)
}

// testForgedPastGuard deletes the guard, and checks the controller's own validation.
func testForgedPastGuard(c *cluster, user client.Client, ns string) {
	neighbour := c.entryOf("honest", "redis.example.com")
	c.must(c.Client.Delete(
		c.t.Context(), &registrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1Name("redis-tls-guard")},
	))
	for i, test := range []struct {
		request map[string]string
		names   string // what the Event must name
	}{
		{map[string]string{"redis-tls/addresses": clusterIP, "redis-tls/ca-secret": "redis-ca"}, "Service default/redis"},
		{map[string]string{"redis-tls/addresses": "169.254.169.254", "redis-tls/ca-secret": "redis-ca"}, "169.254.169.254"},
		{map[string]string{"redis-tls/host": "kubernetes.default.svc"}, "kubernetes.default.svc"},
		{map[string]string{"redis-tls/host": "localhost"}, "localhost"},
		{map[string]string{"redis-tls/host": "*.example.com"}, "*.example.com"},
		{map[string]string{"redis-tls/host": "redis.example.com."}, "redis.example.com."},
		{map[string]string{"redis-tls/host": "other.example.com"}, "redis-tls/to-"}, // the label is of redis.example.com
		{map[string]string{}, "redis-tls/status"},
	} {
		forged := c.forged(ns, requesting(), test.request, "251.7.7.7").on(pod(ns, fmt.Sprintf("past-guard-%d", i), nil))
		c.eventually("the guard to be gone", func(ctx context.Context) error { return user.Create(ctx, forged) })
		c.waitForEventOf(ns, forged.Name, "RequestIgnored", test.names)
	}
	// This request is valid except for its VIP, which is a neighbour's.
	stolen := c.forged(ns, requesting(), requesting(), neighbour.Spec.Addresses[0]).on(pod(ns, "stolen", nil))
	c.must(user.Create(c.t.Context(), stolen))
	c.waitForEvent(ns, "Conflict", neighbour.Spec.Addresses[0])
	outside := c.forged(
		ns, requestingFor("outside.example.com"), requestingFor("outside.example.com"), clusterIP,
	).on(pod(ns, "outside", nil))
	c.must(user.Create(c.t.Context(), outside))
	c.waitForEvent(ns, "Conflict", clusterIP)
	c.wantOnlyHonest(ns, 3)
	c.wantUntouched(neighbour)
}

// mostKeys is policy.maxKeysPerNamespace.
const mostKeys = 5

// testKeysPerNamespace checks that the limit counts different originations, not pods, and that a deleted pod frees its
// key.
func testKeysPerNamespace(c *cluster) {
	ns := c.namespace("keys", nil, nil)
	user := c.podCreator(ns)
	request := func(n int) map[string]string { return requestingFor(fmt.Sprintf("k%d.example.com", n)) }
	pods := make([]*corev1.Pod, mostKeys)
	for i := range pods {
		pods[i] = pod(ns, fmt.Sprintf("k%d", i), request(i))
		c.must(user.Create(c.t.Context(), pods[i]))
	}
	c.waitForObjects(ns, mostKeys, mostKeys)
	c.eventuallyForbidden(
		ns,
		request(mostKeys),
		"metadata.annotations[redis-tls/host]",
		fmt.Sprintf(" %d ", mostKeys),
		"policy.maxKeysPerNamespace",
	)
	c.must(user.Create(c.t.Context(), pod(ns, "equal", request(0))))
	c.must(c.Client.Delete(c.t.Context(), pods[2], client.GracePeriodSeconds(0)))
	c.eventually("the deleted pod's key to be free", func(ctx context.Context) error {
		return user.Create(ctx, pod(ns, "next", request(mostKeys)))
	})
}
