package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	networking "istio.io/api/networking/v1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// What istiod gives a sidecar for each shape, asked over ADS; no Envoy runs.
func TestWhatIstiodGivesASidecar(t *testing.T) {
	b := mesh(t)
	host, err := b.Host("ads")
	ok(t, err)
	for _, c := range []struct {
		name, namespace string
		annotations     map[string]string
		cluster         string            // its name
		has             map[string]string // what the cluster must contain, by what it proves
		listeners       string            // what the names of all listeners of the port begin with
		listening       string            // what these contain
		nowhere         []string          // in nothing that is given
	}{
		{
			name: "a DNS host with system roots", namespace: "given-dns",
			annotations: map[string]string{"redis-tls/host": "redis-i.aivencloud.com", "redis-tls/target-port": "16222"},
			cluster:     "outbound|6379||redis-i.aivencloud.com.redis-tls.internal",
			has: map[string]string{
				"SNI": `"sni":"redis-i.aivencloud.com"`, "an exact SAN": `"exact":"redis-i.aivencloud.com"`,
				"the proxy's roots": "/etc/ssl/certs/ca-certificates.crt", "the trailing dot": `"address":"redis-i.aivencloud.com."`, "the target port": `"portValue":16222`,
			},
			listeners: "240.241.",
		},
		{
			name: "a DNS host with a CA of its own", namespace: "given-ca",
			annotations: map[string]string{"redis-tls/host": "redis-j.aivencloud.com", "redis-tls/ca-secret": "redis-ca"},
			cluster:     "outbound|6379||redis-j.aivencloud.com.redis-tls.internal",
			has: map[string]string{
				"SNI": `"sni":"redis-j.aivencloud.com"`, "an exact SAN": `"exact":"redis-j.aivencloud.com"`,
				"the mounted CA": "file-root:/etc/redis-tls/redis-j.aivencloud.com/ca.crt",
			},
			listeners: "240.241.",
			nowhere:   []string{"/etc/ssl/certs/ca-certificates.crt"},
		},
		{
			name: "an IP", namespace: "given-ip",
			annotations: map[string]string{"redis-tls/addresses": "10.11.12.13", "redis-tls/port": "6378", "redis-tls/ca-secret": "redis-ca"},
			cluster:     "outbound|6378||ip-10-11-12-13.redis-tls.internal",
			has:         map[string]string{"the mounted CA": "file-root:/etc/redis-tls/ip-10-11-12-13/ca.crt", "TLS 1.2 at least": `"tlsMinimumProtocolVersion":"TLSv1_2"`},
			listeners:   "10.11.12.13_6378",
		},
		{
			name: "a CA in a ConfigMap", namespace: "given-configmap",
			annotations: map[string]string{"redis-tls/host": "redis-q.aivencloud.com", "redis-tls/ca-configmap": "trust", "redis-tls/ca-key": "bundle.pem"},
			cluster:     "outbound|6379||redis-q.aivencloud.com.redis-tls.internal",
			has:         map[string]string{"the mounted CA": "file-root:/etc/redis-tls/redis-q.aivencloud.com/ca.crt"},
			listeners:   "240.241.",
			nowhere:     []string{"/etc/ssl/certs/ca-certificates.crt"},
		},
		{
			name: "a client certificate", namespace: "given-mutual",
			annotations: map[string]string{"redis-tls/host": "redis-r.aivencloud.com", "redis-tls/mode": "mutual", "redis-tls/client-secret": "client"},
			cluster:     "outbound|6379||redis-r.aivencloud.com.redis-tls.internal",
			has: map[string]string{
				"the mounted pair": "file-cert:/etc/redis-tls/redis-r.aivencloud.com/tls.crt~/etc/redis-tls/redis-r.aivencloud.com/tls.key",
				"the mounted CA":   "file-root:/etc/redis-tls/redis-r.aivencloud.com/ca.crt", "an exact SAN": `"exact":"redis-r.aivencloud.com"`,
			},
			listeners: "240.241.",
		},
		{
			name: "a ConfigMap by secret discovery", namespace: "given-sds-configmap",
			annotations: map[string]string{"redis-tls/host": "redis-t.aivencloud.com", "redis-tls/ca-configmap": "trust", "redis-tls/delivery": "sds"},
			cluster:     "outbound|6379||redis-t.aivencloud.com.redis-tls.internal",
			has:         map[string]string{"the ConfigMap": `"name":"configmap://given-sds-configmap/trust-cacert"`, "an exact SAN": `"exact":"redis-t.aivencloud.com"`},
			listeners:   "240.241.",
			nowhere:     []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/redis-tls/"},
		},
		{
			name: "a Secret's CA by secret discovery", namespace: "given-sds-secret",
			annotations: map[string]string{"redis-tls/host": "redis-u.aivencloud.com", "redis-tls/ca-secret": "redis-ca", "redis-tls/delivery": "sds"},
			cluster:     "outbound|6379||redis-u.aivencloud.com.redis-tls.internal",
			has:         map[string]string{"the Secret, as what anybody may read": `"name":"kubernetes://redis-ca-cacert"`, "an exact SAN": `"exact":"redis-u.aivencloud.com"`},
			listeners:   "240.241.",
			nowhere:     []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/redis-tls/", `"kubernetes://redis-ca"`},
		},
		{
			name: "a client certificate by secret discovery", namespace: "given-sds-mutual",
			annotations: map[string]string{"redis-tls/host": "redis-v.aivencloud.com", "redis-tls/mode": "mutual", "redis-tls/client-secret": "client", "redis-tls/delivery": "sds"},
			cluster:     "outbound|6379||redis-v.aivencloud.com.redis-tls.internal",
			has: map[string]string{
				"the pair": `"name":"kubernetes://client"`, "the CA beside it": `"name":"kubernetes://client-cacert"`, "an exact SAN": `"exact":"redis-v.aivencloud.com"`,
			},
			listeners: "240.241.",
			nowhere:   []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/redis-tls/"},
		},
		{
			name: "settings of connections", namespace: "given-connection",
			annotations: map[string]string{
				"redis-tls/host": "redis-s.aivencloud.com", "redis-tls/connect-timeout": "3s", "redis-tls/idle-timeout": "2h",
				"redis-tls/tcp-keepalive": "time=300s,interval=30s,probes=5",
			},
			cluster: "outbound|6379||redis-s.aivencloud.com.redis-tls.internal",
			has: map[string]string{
				"time limit to connect": `"connectTimeout":"3s"`, "an exact SAN": `"exact":"redis-s.aivencloud.com"`,
				"keepalive": `"tcpKeepalive":{"keepaliveProbes":5,"keepaliveTime":300,"keepaliveInterval":30}`,
			},
			listeners: "240.241.",
			listening: `"idleTimeout":"7200s"`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := namespace(t, b, c.namespace, nil, nil)
			pod := app(ns, "asking", c.annotations)
			ok(t, b.Client.Create(t.Context(), pod))
			t.Cleanup(func() { _ = b.Client.Delete(context.Background(), pod, client.GracePeriodSeconds(0)) })

			cluster := ""
			var given *bed.Given
			ok(t, harness.Eventually(t.Context(), 30*time.Second, "the cluster with TLS", func(ctx context.Context) (err error) {
				if given, err = b.Given(ctx, pod, host.Address, true); err != nil {
					return err
				}
				if cluster = compact(find(given.Clusters, c.cluster)); !strings.Contains(cluster, "transport_sockets") && !strings.Contains(cluster, "UpstreamTlsContext") {
					return fmt.Errorf("cluster %q", cluster)
				}
				return nil
			}))
			for what, text := range c.has {
				if !strings.Contains(cluster, text) {
					t.Errorf("%s: the cluster has no %s:\n%s", what, text, cluster)
				}
			}
			port := strings.Split(c.cluster, "|")[1]
			n := 0
			for _, l := range given.Listeners {
				name := nameOf(l)
				if !strings.HasSuffix(name, "_"+port) {
					continue
				}
				if n++; !strings.HasPrefix(name, c.listeners) {
					t.Errorf("listener %s, want only those of %s", name, c.listeners)
				}
				if !strings.Contains(compact(l), c.listening) {
					t.Errorf("listener %s has no %s:\n%s", name, c.listening, l)
				}
			}
			if n == 0 {
				t.Errorf("no listener for port %s", port)
			}
			everything := fmt.Sprintf("%s", given.Clusters) + fmt.Sprintf("%s", given.Listeners)
			for _, text := range c.nowhere {
				if strings.Contains(everything, text) {
					t.Errorf("%s is among what was given", text)
				}
			}
			// The real name stays DNS's business: only the private one is in the table.
			if name, asked := c.annotations["redis-tls/host"]; asked && strings.Contains(compactAll(given.NameTable), `"`+name+`"`) {
				t.Errorf("the name table has %s", name)
			}
			neighbours(t, b, ns, c.cluster, host)
			silence(t, b, ns)
		})
	}
}

// neighbours fails where a pod of the namespace that does not ask gets TLS, or one of another namespace
// gets anything.
func neighbours(t *testing.T, b *bed.Bed, ns, cluster string, host *bed.Host) {
	t.Helper()
	given, err := b.Given(t.Context(), app(ns, "neighbour", nil), host.Address, true)
	ok(t, err)
	if text := compact(find(given.Clusters, cluster)); strings.Contains(text, "UpstreamTlsContext") {
		t.Errorf("a neighbour gets the TLS settings: %s", text)
	}
	given, err = b.Given(t.Context(), app("default", "stranger", nil), host.Address, true)
	ok(t, err)
	if found := find(given.Clusters, cluster); found != nil {
		t.Errorf("another namespace gets the cluster: %s", found)
	}
}

// silence fails where Istio's analyzers have anything to say about our objects of the namespace.
func silence(t *testing.T, b *bed.Bed, ns string) {
	t.Helper()
	objects := []client.Object{}
	pods := &corev1.PodList{}
	for _, list := range []client.ObjectList{&networkingv1.ServiceEntryList{}, &networkingv1.DestinationRuleList{}, pods} {
		ok(t, b.Client.List(t.Context(), list, client.InNamespace(ns)))
		ok(t, meta.EachListItem(list, func(o runtime.Object) error {
			objects = append(objects, o.(client.Object))
			return nil
		}))
	}
	if len(objects) < 3 {
		t.Fatalf("%d objects in %s, want an entry, a rule and a pod", len(objects), ns)
	}
	messages, err := b.Analyze(t.Context(), objects...)
	ok(t, err)
	for _, m := range messages {
		if text := fmt.Sprint(m); strings.Contains(text, "ServiceEntry") || strings.Contains(text, "DestinationRule") {
			t.Errorf("Istio's analyzers: %v", m)
		}
	}
}

func find(resources []json.RawMessage, name string) json.RawMessage {
	for _, r := range resources {
		if nameOf(r) == name {
			return r
		}
	}
	return nil
}

func nameOf(resource json.RawMessage) string {
	var named struct{ Name string }
	_ = json.Unmarshal(resource, &named)
	return named.Name
}

// compact is the JSON without spaces.
func compact(resource json.RawMessage) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \n\t", r) {
			return -1
		}
		return r
	}, string(resource))
}

func compactAll(resources []json.RawMessage) string {
	all := ""
	for _, r := range resources {
		all += compact(r)
	}
	return all
}

// The counter-proof of silence: Istio's analyzers do speak.
func TestAnalyzersSpeakOfARuleThatVerifiesNothing(t *testing.T) {
	b := mesh(t)
	rule := &networkingv1.DestinationRule{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "careless"}}
	rule.Spec.Host = "redis.example.com"
	rule.Spec.TrafficPolicy = &networking.TrafficPolicy{Tls: &networking.ClientTLSSettings{Mode: networking.ClientTLSSettings_SIMPLE}}
	messages, err := b.Analyze(t.Context(), rule)
	ok(t, err)
	if !strings.Contains(fmt.Sprint(messages), "DestinationRule") {
		t.Errorf("messages %v, want one of the rule without caCertificates", messages)
	}
}
