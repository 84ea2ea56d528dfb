package e2e

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	networking "istio.io/api/networking/v1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// TestRegistryOnly: an app that dials another name of the server than it annotated bypasses the VIP. REGISTRY_ONLY
// prevents it, because only the annotated host is in the registry.
func TestRegistryOnly(t *testing.T) {
	b := mesh(t)
	for _, c := range []struct {
		name, namespace string
		// restrict returns the function that restores the policy.
		restrict func(t *testing.T, b *bed.Bed, ns string) func(context.Context) error
	}{
		{
			"of a namespace, by a Sidecar",
			"registry-sidecar",
			func(t *testing.T, b *bed.Bed, ns string) func(context.Context) error {
				s := sidecar(t, b, ns, networking.OutboundTrafficPolicy_REGISTRY_ONLY, "./*")
				return func(ctx context.Context) error { return b.Client.Delete(ctx, s) }
			},
		},
		{"of the mesh", "registry-mesh", restrictMesh},
	} {
		t.Run(c.name, func(t *testing.T) {
			host, alias := c.namespace+".aivencloud.com", c.namespace+".alias.example.com"
			ns := namespace(t, b, c.namespace, nil, nil)
			redis := server(t, b, host, bed.RedisOptions{Port: 6379, TLSPort: 16222, Leaf: issue(t, b.PublicCA, []string{host})})
			b.DNS.Set(alias, redis.Address)
			annotations := map[string]string{"redis-tls/host": host, "redis-tls/target-port": "16222"}
			p := run(t, b, app(ns, "app", annotations))
			answers(t, p, alias, 6379, "PONG", "PING") // control, in plaintext: there is no other server

			putBack := c.restrict(t, b, ns)
			t.Cleanup(func() {
				if err := errors.Join(putBack(context.Background()), eventually(context.Background(), p, alias, true)); err != nil {
					t.Error(err)
				}
			})
			ok(t, eventually(t.Context(), p, alias, false))
			capture := record(t, redis)
			late := run(t, b, app(ns, "late", annotations))
			for _, p := range []*bed.Pod{p, late} {
				answers(t, p, host, 6379, "PONG", "PING")
				refused(t, p, alias, 6379)
			}
			if n := onlyAt(t, capture, 16222); n < 2 {
				t.Errorf("%d connections were seen on the wire, want one of each pod at least", n)
			}
		})
	}
}

// restrictMesh sets the policy in the mesh's configuration.
func restrictMesh(t *testing.T, b *bed.Bed, _ string) func(context.Context) error {
	t.Helper()
	config := &corev1.ConfigMap{}
	ok(t, b.Client.Get(t.Context(), client.ObjectKey{Namespace: "istio-system", Name: "istio"}, config))
	before := config.DeepCopy()
	before.ResourceVersion = "" // replace any later version
	mesh := map[string]any{}
	ok(t, yaml.Unmarshal([]byte(config.Data["mesh"]), &mesh))
	mesh["outboundTrafficPolicy"] = map[string]string{"mode": "REGISTRY_ONLY"}
	content, err := yaml.Marshal(mesh)
	ok(t, err)
	config.Data["mesh"] = string(content)
	ok(t, b.Client.Update(t.Context(), config))
	return func(ctx context.Context) error { return b.Client.Update(ctx, before) }
}

// TestUsersSidecar: a user's Sidecar does not have the private host. New pods are refused with the line to add, and
// running pods reach nothing.
func TestUsersSidecar(t *testing.T) {
	b := mesh(t)
	const ns, host = "users-sidecar", "redis-k.aivencloud.com"
	namespace(t, b, ns, nil, nil)
	redis := server(t, b, host, bed.RedisOptions{Port: 6379, TLSPort: 16222, Leaf: issue(t, b.PublicCA, []string{host})})
	annotated := func(name string) *corev1.Pod {
		return app(ns, name, map[string]string{"redis-tls/host": host, "redis-tls/target-port": "16222"})
	}
	running := run(t, b, annotated("running"))
	answers(t, running, host, 6379, "PONG", "PING")

	s := sidecar(t, b, ns, networking.OutboundTrafficPolicy_ALLOW_ANY, "istio-system/*")
	line := ""
	t.Run("without the private host a pod is refused, with the line to add", func(t *testing.T) {
		// The object, and the fix with a path in it and a line to paste there.
		fix := regexp.MustCompile(`Sidecar users-sidecar/default .*add this line to spec\.egress\[0\]\.hosts: - "([^"]+)"`)
		ok(t, harness.Eventually(t.Context(), 30*time.Second, "the pod to be refused", func(ctx context.Context) error {
			err := b.Client.Create(ctx, annotated("refused"), client.DryRunAll)
			if err == nil {
				return errors.New("admitted")
			}
			found := fix.FindStringSubmatch(err.Error())
			if found == nil {
				return fmt.Errorf("the refusal is %w, want %s", err, fix)
			}
			line = found[1]
			return nil
		}))
	})
	t.Run("a running pod reaches nothing, and not the plain port", func(t *testing.T) {
		ok(t, eventually(t.Context(), running, host, false))
		capture := record(t, redis)
		refused(t, running, host, 6379)
		onlyAt(t, capture, 16222)
	})
	t.Run("with that line it is admitted, and has TLS", func(t *testing.T) {
		if line == "" {
			t.Fatal("there is no line to add")
		}
		s.Spec.Egress[0].Hosts = append(s.Spec.Egress[0].Hosts, line)
		ok(t, b.Client.Update(t.Context(), s))
		ok(t, harness.Eventually(t.Context(), 30*time.Second, "the pod to be admitted", func(ctx context.Context) error {
			return b.Client.Create(ctx, annotated("admitted"), client.DryRunAll)
		}))
		capture := record(t, redis)
		answers(t, run(t, b, annotated("admitted")), host, 6379, "PONG", "PING")
		answers(t, running, host, 6379, "PONG", "PING")
		if n := onlyAt(t, capture, 16222); n < 2 {
			t.Errorf("%d connections were seen on the wire, want one of each pod at least", n)
		}
	})
}

// TestUsersRouteForPrivateHosts: the TCP route of a user's VirtualService has the private hosts by a wildcard, and
// would bypass TLS. A policy refuses it. Without the policy a new pod is refused. A running pod has an Event, and its
// connection follows the route.
func TestUsersRouteForPrivateHosts(t *testing.T) {
	b := mesh(t)
	const host, port = "redis-route.aivencloud.com", 16222
	ns := namespace(t, b, "users-route", nil, nil)
	server(t, b, host, bed.RedisOptions{TLSPort: port, Leaf: issue(t, b.PublicCA, []string{host})})
	elsewhere := server(t, b, "elsewhere.example.com", bed.RedisOptions{Port: 6379})
	running := run(t, b, app(ns, "running", with(host, port)))
	answers(t, running, host, 6379, "PONG", "PING")
	apply(t, b, ns, `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: elsewhere}
spec:
  hosts: [elsewhere.example.com]
  exportTo: ["."]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{number: 6379, name: tcp-redis, protocol: TCP}]
`)
	const byUser = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: internal}
spec:
  hosts: ["*.internal"]
  exportTo: ["."]
  tcp:
  - route: [{destination: {host: elsewhere.example.com, port: {number: 6379}}}]
`
	objects, err := harness.ParseObjects([]byte(byUser))
	ok(t, err)
	objects[0].SetNamespace(ns)
	err = b.Client.Create(t.Context(), objects[0].DeepCopy())
	if err == nil || !strings.Contains(err.Error(), "redis-tls-protect-objects") {
		t.Fatalf("the route was created, or refused otherwise: %v", err)
	}
	inDefault := objects[0].DeepCopy()
	inDefault.SetNamespace("default")
	withoutPolicy(t, b, "redis-tls-protect-objects", objects[0], inDefault)
	apply(t, b, ns, byUser)
	const route = "VirtualService users-route/internal "
	refusedBy(t, b, app(ns, "app", with(host, port)), route)
	ok(t, harness.Eventually(t.Context(), 30*time.Second, "an Event of the running pod", func(ctx context.Context) error {
		events := &eventsv1.EventList{}
		if err := b.Client.List(ctx, events, client.InNamespace(ns)); err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Regarding.Name == "running" && e.Reason == "UnmanagedObject" && strings.Contains(e.Note, route) {
				return nil
			}
		}
		return fmt.Errorf("%d events", len(events.Items))
	}))
	vip := objectsOf(t, b, running.Pod, host).entry.Spec.Addresses[0]
	listeners := func(t *testing.T, p *bed.Pod) string { return dump(t, p, "dynamic_listeners", vip+"_6379") }
	waitFor(t, running, listeners, "||elsewhere.example.com", true)
	capture := record(t, elsewhere)
	answers(t, running, host, 6379, "OK", "SET", "k", password)
	inClear(t, capture, 6379, password)
}

// sidecar creates the namespace's Sidecar with one egress listener.
func sidecar(
	t *testing.T, b *bed.Bed, ns string, mode networking.OutboundTrafficPolicy_Mode, hosts ...string,
) *networkingv1.Sidecar {
	t.Helper()
	s := &networkingv1.Sidecar{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "default"}}
	s.Spec.OutboundTrafficPolicy = &networking.OutboundTrafficPolicy{Mode: mode}
	s.Spec.Egress = []*networking.IstioEgressListener{{Hosts: hosts}}
	ok(t, b.Client.Create(t.Context(), s))
	return s
}

// eventually waits until the app is answered at port 6379 of the host or, if not answered, until it no longer is.
func eventually(ctx context.Context, p *bed.Pod, host string, answered bool) error {
	return harness.Eventually(ctx, 30*time.Second, fmt.Sprintf(
		"%s to answer (%v)", host, answered,
	), func(ctx context.Context) error {
		got, err := p.Redis(ctx, host, 6379, "PING")
		if (err == nil && got == "PONG") != answered {
			return errors.Join(fmt.Errorf("the answer is %q", got), err)
		}
		return nil
	})
}

// onlyAt ends the capture. It fails if a client connected to another port, sent anything but TLS, or sent one of the
// texts in clear. It returns the number of connections that sent something.
func onlyAt(t *testing.T, c *bed.Capture, port uint16, texts ...string) int {
	t.Helper()
	streams, err := c.Stop(t.Context(), port)
	ok(t, err)
	n := 0
	for _, s := range streams {
		if s.Server.Port() != port || len(s.Sent) > 0 && !s.TLS() {
			t.Errorf("on the wire: %s, want TLS at port %d only", s, port)
		}
		for _, text := range texts {
			if strings.Contains(string(s.Sent), text) {
				t.Errorf("%q is in clear on the wire: %s", text, s)
			}
		}
		if len(s.Sent) > 0 {
			n++
		}
	}
	return n
}
