package e2e

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// TestServiceOfTheMesh: a Redis in the mesh, whose Service routes to a pod with a sidecar or to one without.
func TestServiceOfTheMesh(t *testing.T) {
	b := mesh(t)
	ns := namespace(t, b, "in-mesh", nil, nil)
	redis := redisPod(t, b, app(ns, "redis", nil))
	service(t, b, ns, "redis", redis)
	bare := redisPod(t, b, withoutSidecar(app(ns, "bare", nil)))
	service(t, b, ns, "bare", bare)
	neighbour := run(t, b, app(ns, "neighbour", nil))

	t.Run("by the short name, a sidecar sends mutual TLS to a sidecar", func(t *testing.T) {
		pod := run(t, b, app(ns, "annotated", map[string]string{"redis-tls/host": "redis", "redis-tls/mode": "istio-mutual"}))
		if len(pod.Spec.HostAliases) > 0 {
			t.Errorf("pinned: %v", pod.Spec.HostAliases)
		}
		capture := record(t, redis.Host)
		answers(t, pod, "redis", 6379, "PONG", "PING")
		answers(t, pod, "redis.in-mesh", 6379, "PONG", "PING")
		if n := onlyTLS(t, capture, 6379, pod.Host.Address); n < 2 {
			t.Errorf("%d connections of the pod were seen on the wire, want both", n)
		}
	})
	t.Run("if the server has no sidecar, no byte is sent to it in plaintext", func(t *testing.T) {
		pod := run(t, b, app(ns, "annotated-bare", map[string]string{
			"redis-tls/host": "bare",
			"redis-tls/mode": "istio-mutual",
		}))
		knows(t, pod, 6379, "bare.in-mesh.svc.cluster.local")
		capture := record(t, bare.Host)
		refused(t, pod, "bare", 6379)
		onlyTLS(t, capture, 6379, pod.Host.Address)

		// Control: Istio sends plaintext for a neighbour that the managed rule does not select.
		capture = record(t, bare.Host)
		answers(t, neighbour, "bare", 6379, "PONG", "PING")
		streams, err := capture.Stop(t.Context(), 6379)
		ok(t, err)
		if !strings.Contains(sentBy(streams, neighbour.Host.Address), "PING") {
			t.Errorf("seen on the wire: %v, want the neighbour's command in plaintext", streams)
		}
	})
	t.Run("a Service of another namespace is refused until the policy names it", func(t *testing.T) {
		other := namespace(t, b, "in-mesh-other", nil, nil)
		err := b.Client.Create(t.Context(), app(other, "annotated", map[string]string{
			"redis-tls/host": "redis.in-mesh",
			"redis-tls/mode": "istio-mutual",
		}))
		if err == nil || !strings.Contains(err.Error(), "redis.in-mesh.svc.cluster.local") ||
			!strings.Contains(err.Error(), "policy.allowedHosts") {
			t.Errorf("the answer is %v", err)
		}
	})
}

// TestExampleInTheMesh runs the example, a Service and the pods of two templates, unchanged.
func TestExampleInTheMesh(t *testing.T) {
	b := mesh(t)
	ns := namespace(t, b, "in-mesh-example", map[string]string{"istio-injection": "enabled"}, nil)
	objects, err := harness.ReadObjects(filepath.Join("..", "..", "examples", "in-mesh"))
	ok(t, err)
	pods := map[string]*bed.Pod{}
	for _, o := range objects {
		template, found, err := unstructured.NestedMap(o.Object, "spec", "template")
		ok(t, err)
		if !found {
			continue
		}
		pod := &corev1.Pod{}
		ok(t, runtime.DefaultUnstructuredConverter.FromUnstructured(template, pod))
		pod.Namespace, pod.Name = ns, o.GetName()
		if pod.Name == "redis" {
			pods[pod.Name] = redisPod(t, b, pod)
			service(t, b, ns, "redis", pods[pod.Name])
		} else {
			pods[pod.Name] = run(t, b, pod)
		}
	}
	capture := record(t, pods["redis"].Host)
	answers(t, pods["cart"], "redis", 6379, "PONG", "PING")
	if n := onlyTLS(t, capture, 6379, pods["cart"].Host.Address); n == 0 {
		t.Error("no connection was seen on the wire")
	}
	refused(t, run(t, b, withoutSidecar(app(ns, "outside", nil))), pods["redis"].Host.Address.String(), 6379)
}

// redisPod runs the pod with a plaintext redis-server in it.
func redisPod(t *testing.T, b *bed.Bed, pod *corev1.Pod) *bed.Pod {
	t.Helper()
	p := run(t, b, pod)
	_, err := p.Host.RunRedis(t.Context(), bed.RedisOptions{Port: 6379})
	ok(t, err)
	return p
}

func withoutSidecar(pod *corev1.Pod) *corev1.Pod {
	pod.Labels["sidecar.istio.io/inject"] = "false"
	return pod
}

// service creates a Service with port 6379 and the pod as its only endpoint, and adds its names to the DNS.
func service(t *testing.T, b *bed.Bed, ns, name string, pod *bed.Pod) {
	t.Helper()
	tcp, port := corev1.ProtocolTCP, corev1.ServicePort{Name: "tcp-redis", Port: 6379, Protocol: corev1.ProtocolTCP}
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{port}}}
	ok(t, b.Client.Create(t.Context(), s))
	ok(t, b.Client.Create(t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ns,
			Name:      name,
			Labels:    map[string]string{discoveryv1.LabelServiceName: name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{pod.Host.Address.String()}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: ns, Name: pod.Name},
		}},
		Ports: []discoveryv1.EndpointPort{{Name: &port.Name, Port: &port.Port, Protocol: &tcp}},
	}))
	ip, err := netip.ParseAddr(s.Spec.ClusterIP)
	ok(t, err)
	b.DNS.Set(name+"."+ns+".svc.cluster.local", ip)
}

// sentBy returns all bytes that the client sent.
func sentBy(streams []bed.Stream, client netip.Addr) string {
	all := ""
	for _, s := range streams {
		if s.Client.Addr() == client {
			all += string(s.Sent)
		}
	}
	return all
}

// TestStrictServer: a Redis server accepts only mutual TLS of the mesh.
func TestStrictServer(t *testing.T) {
	b := mesh(t)
	ns := namespace(t, b, "strict", nil, nil)
	open := redisPod(t, b, app(ns, "open", nil))
	strict := redisPod(t, b, app(ns, "redis", map[string]string{"redis-tls/server": "strict"}))
	service(t, b, ns, "redis", strict)
	outside := run(t, b, withoutSidecar(app(ns, "outside", nil)))

	t.Run("a client without a sidecar is refused", func(t *testing.T) {
		refused(t, outside, strict.Host.Address.String(), 6379)
	})
	t.Run("a server without the annotation accepts plaintext", func(t *testing.T) {
		answers(t, outside, open.Host.Address.String(), 6379, "PONG", "PING")
	})
	t.Run("a client with a sidecar is served by mutual TLS", func(t *testing.T) {
		pod := run(t, b, app(ns, "annotated", map[string]string{"redis-tls/host": "redis", "redis-tls/mode": "istio-mutual"}))
		capture := record(t, strict.Host)
		answers(t, pod, "redis", 6379, "PONG", "PING")
		if n := onlyTLS(t, capture, 6379, pod.Host.Address); n == 0 {
			t.Error("no connection of the pod was seen on the wire")
		}
	})
	t.Run("the server may be restricted, and a client of another server", func(t *testing.T) {
		replica := redisPod(t, b, app(ns, "replica", map[string]string{
			"redis-tls/server":  "strict",
			"redis-tls/host":    "redis",
			"redis-tls/mode":    "istio-mutual",
			"redis-tls/sidecar": "restrict",
		}))
		answers(t, replica, "redis", 6379, "PONG", "PING")
		refused(t, outside, replica.Host.Address.String(), 6379)
	})
	silence(t, b, ns)
}

// TestRestrictedPodOverHTTP: a pod that is restricted to an HTTP host calls it by TLS, and by its own HTTPS, and no
// other host.
func TestRestrictedPodOverHTTP(t *testing.T) {
	b := mesh(t)
	const host, other = "api-r.example.com", "other-api-r.example.com"
	ns := namespace(t, b, "restricted-http", nil, nil)
	serving := func(name string) *bed.Host {
		return web(t, b, name, bed.NginxOptions{
			Ports:   []uint16{80},
			TLSPort: 443,
			Leaf:    issue(t, b.PublicCA, []string{name}),
		})
	}
	nginx, _ := serving(host), serving(other)
	ca, err := b.File("restricted-http.crt", b.PublicCA.PEM())
	ok(t, err)
	free := run(t, b, app(ns, "free", overHTTP(host)))
	restricted := run(t, b, app(ns, "restricted", overHTTP(host, map[string]string{"redis-tls/sidecar": "restrict"})))

	capture := record(t, nginx)
	for _, p := range []*bed.Pod{free, restricted} {
		calls(t, p, "http://"+host, "200 tls "+host)
		calls(t, p, "https://"+host, "200 tls "+host, "--cacert", ca)
	}
	if n := onlyTLS(t, capture, 443, restricted.Host.Address); n < 2 {
		t.Errorf("%d connections of the restricted pod were seen on the wire, want 2 at least", n)
	}
	for url, answer := range map[string]string{"http://" + other: "200 plain", "https://" + other: "200 tls " + other} {
		calls(t, free, url, answer, "--cacert", ca) // control
		failsToCall(t, restricted, url, "--cacert", ca)
	}
	silence(t, b, ns)
}

// TestRestrictedPod: a pod that is restricted to its Redises reaches no other host.
func TestRestrictedPod(t *testing.T) {
	b := mesh(t)
	const host, other = "redis-r.aivencloud.com", "other-r.aivencloud.com"
	ns := namespace(t, b, "restricted", nil, nil)
	server(t, b, host, bed.RedisOptions{Port: 6379, TLSPort: 16222, Leaf: issue(t, b.PublicCA, []string{host})})
	server(t, b, other, bed.RedisOptions{Port: 6379})
	listed, unlisted := redisPod(t, b, app(ns, "listed", nil)), redisPod(t, b, app(ns, "unlisted", nil))
	service(t, b, ns, "listed", listed)
	service(t, b, ns, "unlisted", unlisted)
	ca := newCA(t, "By address")
	secret(t, b, ns, "redis-ca", "ca.crt", ca.PEM())
	ip := server(t, b, "", bed.RedisOptions{
		TLSPort: 6378,
		Leaf:    issue(t, ca, []string{"redis.google.internal"}),
	}).Address.String()
	keys := map[string]string{
		"redis-tls/host":                 host,
		"redis-tls/target-port":          "16222",
		"mesh.redis-tls/host":            "listed",
		"mesh.redis-tls/mode":            "istio-mutual",
		"ip.redis-tls/addresses":         ip,
		"ip.redis-tls/port":              "6378",
		"ip.redis-tls/ca-secret":         "redis-ca",
		"ip.redis-tls/subject-alt-names": "redis.google.internal",
	}
	free := run(t, b, app(ns, "free", keys))
	keys["redis-tls/sidecar"] = "restrict"
	restricted := run(t, b, app(ns, "restricted-a", keys))

	for _, p := range []*bed.Pod{free, restricted} {
		answers(t, p, host, 6379, "PONG", "PING")
		answers(t, p, "listed", 6379, "PONG", "PING")
		answers(t, p, ip, 6378, "PONG", "PING")
	}
	egress := only(t, b, ns, &networkingv1.SidecarList{}).(*networkingv1.Sidecar).Spec.Egress
	hosts := []string{"istio-system/*", "./*." + objectsOf(t, b, restricted.Pod, host).key + ".vip.redis-tls.internal",
		"./" + atomHost(t, b, ns, ip, 6378), "./listed.restricted.svc.cluster.local"}
	if len(egress) != 1 ||
		!slices.Equal(slices.Sorted(slices.Values(egress[0].Hosts)), slices.Sorted(slices.Values(hosts))) {
		t.Errorf("the Sidecar has the egress %v, want the hosts %q", egress, hosts)
	}
	for _, name := range []string{other, "unlisted"} {
		answers(t, free, name, 6379, "PONG", "PING") // control
		refused(t, restricted, name, 6379)
	}
	silence(t, b, ns)
}
