package e2e

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// web adds a host with an nginx, and resolves the DNS name to it.
func web(t *testing.T, b *bed.Bed, name string, o bed.NginxOptions) *bed.Host {
	t.Helper()
	h, err := b.Host("web")
	ok(t, err)
	b.DNS.Set(name, h.Address)
	_, err = h.RunNginx(t.Context(), o)
	ok(t, err)
	return h
}

// calls waits until curl gets the answer.
func calls(t *testing.T, p *bed.Pod, url, want string, args ...string) {
	t.Helper()
	ok(
		t,
		harness.Eventually(t.Context(), 30*time.Second, fmt.Sprintf(
			"%s to answer %q", url, want,
		), func(ctx context.Context) error {
			if got, err := p.HTTP(ctx, url, args...); err != nil || got != want {
				return fmt.Errorf("%q (%w)", got, err)
			}
			return nil
		}),
	)
}

// failsToCall fails if curl gets the answer to its call.
func failsToCall(t *testing.T, p *bed.Pod, url string, args ...string) {
	t.Helper()
	got, err := p.HTTP(t.Context(), url, args...)
	if strings.HasPrefix(got, "2") || got == "" {
		t.Errorf("%s answered %q (%v), want a failure", url, got, err)
	}
	t.Logf("%s: %q (%v)", url, got, err)
}

func overHTTP(host string, more ...map[string]string) map[string]string {
	all := map[string]string{"redis-tls/host": host, "redis-tls/protocol": "http"}
	for _, m := range more {
		maps.Copy(all, m)
	}
	return all
}

// TestHTTP: the app calls http://host, and its sidecar sends TLS to 443. Calls of neighbours, and the app's own HTTPS,
// do not change.
func TestHTTP(t *testing.T) {
	b := mesh(t)
	for _, c := range []struct{ name, namespace, proxyConfig string }{
		{"without DNS capture", "http", ""},
		{"with DNS capture", "http-dns", `proxyMetadata: {ISTIO_META_DNS_CAPTURE: "true"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := c.namespace + ".example.com"
			ns := namespace(t, b, c.namespace, nil, nil)
			nginx := web(t, b, host, bed.NginxOptions{
				Ports:   []uint16{80, 8081},
				TLSPort: 443,
				Leaf:    issue(t, b.PublicCA, []string{host}),
			})
			ca, err := b.File(c.namespace+".crt", b.PublicCA.PEM())
			ok(t, err)
			with := map[string]string{}
			if c.proxyConfig != "" {
				with["proxy.istio.io/config"] = c.proxyConfig
			}
			annotated, neighbour := run(t, b, app(ns, "annotated", overHTTP(host, with))), run(t, b, app(ns, "neighbour", with))
			knows(t, neighbour, 80, host)

			t.Run("the app's plain call is TLS on the wire", func(t *testing.T) {
				capture := record(t, nginx)
				calls(t, annotated, "http://"+host, "200 tls "+host)
				if n := onlyTLS(t, capture, 443); n == 0 {
					t.Error("no connection was seen on the wire")
				}
			})
			t.Run("repeated calls without a pause are answered too", func(t *testing.T) {
				for range 10 {
					if got, err := annotated.HTTP(t.Context(), "http://"+host+"/a?b=c"); got != "200 tls "+host {
						t.Errorf("%q (%v)", got, err)
					}
				}
			})
			t.Run("its own HTTPS passes", func(t *testing.T) {
				calls(t, annotated, "https://"+host, "200 tls "+host, "--cacert", ca)
			})
			t.Run("a neighbour's plain call stays plain", func(t *testing.T) {
				capture := record(t, nginx)
				calls(t, neighbour, "http://"+host, "200 plain")
				streams, err := capture.Stop(t.Context(), 443)
				ok(t, err)
				theirs := slices.DeleteFunc(streams, func(s bed.Stream) bool { return s.Client.Addr() != neighbour.Host.Address })
				if len(theirs) == 0 || theirs[0].Server.Port() != 80 || theirs[0].TLS() {
					t.Errorf("seen on the wire: %v, want plaintext at the plain port", streams)
				}
			})
			t.Run("a neighbour's call of an unlisted port stays plain", func(t *testing.T) {
				calls(t, neighbour, "http://"+host+":8081", "200 plain")
			})
			t.Run("a neighbour's own HTTPS passes", func(t *testing.T) {
				calls(t, neighbour, "https://"+host, "200 tls "+host, "--cacert", ca)
			})
			silence(t, b, ns)
		})
	}
}

// TestHTTPExample runs the example, annotated and written by hand, unchanged.
func TestHTTPExample(t *testing.T) {
	b := mesh(t)
	const host = "api.example.com"
	nginx := web(t, b, host, bed.NginxOptions{
		Ports:   []uint16{80},
		TLSPort: 443,
		Leaf:    issue(t, b.PublicCA, []string{host}),
	})
	for dir, name := range map[string]string{"": "http-annotated", "by-hand": "http-by-hand"} {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, b, name, map[string]string{"istio-injection": "enabled"}, nil)
			objects, err := harness.ReadObjects(filepath.Join("..", "..", "examples", "http", dir))
			ok(t, err)
			objects = slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool {
				o.SetNamespace(ns)
				return o.GetKind() == "Namespace"
			})
			ok(t, b.ApplyObjects(t.Context(), ns, objects...))
			cart := &appsv1.Deployment{}
			ok(t, b.Client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "cart"}, cart))
			p := launch(t, b, podsOf(t, b, cart, 1)[0])
			knows(t, p, 80, host)
			capture := record(t, nginx)
			calls(t, p, "http://"+host, "200 tls "+host)
			if n := onlyTLS(t, capture, 443); n == 0 {
				t.Error("no connection was seen on the wire")
			}
		})
	}
}

// TestHTTPWrongServers: the name in the certificate and the CA are verified.
func TestHTTPWrongServers(t *testing.T) {
	b := mesh(t)
	ns := namespace(t, b, "http-others", nil, nil)
	for _, c := range []struct {
		name, host string
		leaf       func(host string) *bed.Leaf
	}{
		{
			"a certificate for another name",
			"other-name.example.com",
			func(string) *bed.Leaf { return issue(t, b.PublicCA, []string{"mallory.example.com"}) },
		},
		{
			"a certificate of another authority",
			"other-ca.example.com",
			func(host string) *bed.Leaf { return issue(t, newCA(t, "Mallory"), []string{host}) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			nginx := web(t, b, c.host, bed.NginxOptions{Ports: []uint16{80}, TLSPort: 443, Leaf: c.leaf(c.host)})
			p := run(t, b, app(ns, strings.Split(c.host, ".")[0], overHTTP(c.host)))
			knows(t, p, 80, c.host)
			capture := record(t, nginx)
			failsToCall(t, p, "http://"+c.host)
			if n := onlyTLS(t, capture, 443); n == 0 {
				t.Error("no handshake was seen on the wire: the call failed for another reason")
			}
		})
	}
}

// TestHTTPMutual: a server requires a client certificate (ssl_verify_client on).
func TestHTTPMutual(t *testing.T) {
	b := mesh(t)
	const host = "http-mutual.example.com"
	ns := namespace(t, b, "http-mutual", nil, nil)
	servers, clients := newCA(t, "Servers"), newCA(t, "Clients")
	nginx := web(t, b, host, bed.NginxOptions{
		Ports:    []uint16{80},
		TLSPort:  443,
		Leaf:     issue(t, servers, []string{host}),
		ClientCA: clients.PEM(),
	})
	clientSecret(t, b, ns, "client", issue(t, clients, []string{"cart"}), servers.PEM())
	secret(t, b, ns, "server-ca", "ca.crt", servers.PEM())

	t.Run("with a client certificate the call is answered", func(t *testing.T) {
		p := run(t, b, app(ns, "mutual", overHTTP(host, map[string]string{
			"redis-tls/mode":          "mutual",
			"redis-tls/client-secret": "client",
		})))
		capture := record(t, nginx)
		calls(t, p, "http://"+host, "200 tls "+host+" CN=server")
		if n := onlyTLS(t, capture, 443); n == 0 {
			t.Error("no connection was seen on the wire")
		}
	})
	t.Run("without a client certificate the server refuses", func(t *testing.T) {
		p := run(t, b, app(ns, "simple", overHTTP(host, map[string]string{"redis-tls/ca-secret": "server-ca"})))
		knows(t, p, 80, host)
		got, err := p.HTTP(t.Context(), "http://"+host)
		ok(t, err)
		if !strings.HasPrefix(got, "400 ") || !strings.Contains(got, "No required SSL certificate was sent") {
			t.Errorf("answered %q, want nginx's error for a missing certificate", got)
		}
	})
}

// TestHTTPWithAnythingMissing deletes each of the three objects. The app's call fails, and the plain port gets nothing.
// Without the VIP and the entry the call would reach the plain port.
func TestHTTPWithAnythingMissing(t *testing.T) {
	b := mesh(t)
	const host = "http-missing.example.com"
	nginx := web(t, b, host, bed.NginxOptions{
		Ports:   []uint16{80},
		TLSPort: 443,
		Leaf:    issue(t, b.PublicCA, []string{host}),
	})
	clusters := func(t *testing.T, p *bed.Pod) string { return dump(t, p, "dynamic_active_clusters", host) }
	routes := func(t *testing.T, p *bed.Pod) string { return dump(t, p, "dynamic_route_configs", "^80$") }

	for i, c := range []struct {
		name          string
		list          client.ObjectList
		configuration func(*testing.T, *bed.Pod) string
		from          func(originationPort uint32) string
		// plain reports that the call is sent in plaintext to the TLS port, which refuses it.
		plain bool
	}{
		{"the entry", &networkingv1.ServiceEntryList{}, clusters, func(uint32) string { return "outbound|80||" }, false},
		{"the rule", &networkingv1.DestinationRuleList{}, clusters, func(uint32) string { return tls }, true},
		{
			"the route",
			&networkingv1.VirtualServiceList{},
			routes,
			func(n uint32) string { return fmt.Sprintf("outbound|%d||", n) },
			false,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := namespace(t, b, fmt.Sprintf("http-missing-%d", i), nil, nil)
			p := run(t, b, app(ns, "app", overHTTP(host)))
			calls(t, p, "http://"+host, "200 tls "+host)
			routes := &networkingv1.VirtualServiceList{}
			ok(t, b.Client.List(t.Context(), routes, client.InNamespace(ns)))
			from := c.from(routes.Items[0].Spec.Http[0].Route[0].Destination.Port.Number)
			stall(t, b)
			take(t, b, p, c.configuration, from, only(t, b, ns, c.list))
			capture := record(t, nginx)
			failsToCall(t, p, "http://"+host)
			streams, err := capture.Stop(t.Context(), 443)
			ok(t, err)
			for _, s := range streams {
				if !s.TLS() && !(c.plain && s.Server.Port() == 443) && len(s.Sent) > 0 {
					t.Errorf("plaintext on the wire: %s", s)
				}
			}
			if c.name != "the entry" {
				return
			}
			t.Run("control: without the VIP it is answered in plaintext", func(t *testing.T) {
				ok(t, p.DropAliases())
				calls(t, p, "http://"+host, "200 plain")
			})
		})
	}
}

// dump is a part of the sidecar's configuration.
func dump(t *testing.T, p *bed.Pod, resource, name string) string {
	t.Helper()
	out, err := p.Envoy(t.Context(), "config_dump?resource="+resource+"&name_regex=.*"+name+".*")
	ok(t, err)
	return out
}
