package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	networking "istio.io/api/networking/v1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// TestConfigurationFromIstiod fetches over ADS what istiod sends to a sidecar, for each shape. No Envoy runs.
func TestConfigurationFromIstiod(t *testing.T) {
	b := mesh(t)
	host, err := b.Host("ads")
	ok(t, err)
	for _, c := range []struct {
		name, namespace string
		annotations     map[string]string
		clusters        []string          // their ports, and the pinned host or the address
		has             map[string]string // what each cluster must contain, by what it proves
		each            map[string]string // what one cluster must contain
		listeners       []string          // prefixes of the listeners' names; each routes to one of the clusters
		match           string            // what each listener must contain
		nowhere         []string          // texts that no resource may have
	}{
		{
			name: "a DNS host with system roots", namespace: "given-dns",
			annotations: map[string]string{"redis-tls/host": "redis-i.aivencloud.com", "redis-tls/target-port": "16222"},
			clusters:    []string{"6379 redis-i.aivencloud.com"},
			has: map[string]string{
				"SNI":               `"sni":"redis-i.aivencloud.com"`,
				"an exact SAN":      `"exact":"redis-i.aivencloud.com"`,
				"the proxy's roots": "/etc/ssl/certs/ca-certificates.crt",
				"the trailing dot":  `"address":"redis-i.aivencloud.com."`,
				"the target port":   `"portValue":16222`,
			},
			listeners: []string{"251."},
		},
		{
			name: "a DNS host with a CA of its own", namespace: "given-ca",
			annotations: map[string]string{"redis-tls/host": "redis-j.aivencloud.com", "redis-tls/ca-secret": "redis-ca"},
			clusters:    []string{"6379 redis-j.aivencloud.com"},
			has: map[string]string{
				"SNI": `"sni":"redis-j.aivencloud.com"`, "an exact SAN": `"exact":"redis-j.aivencloud.com"`,
				"the mounted CA": "file-root:/etc/redis-tls/redis-j.aivencloud.com/ca.crt",
			},
			listeners: []string{"251."},
			nowhere:   []string{"/etc/ssl/certs/ca-certificates.crt"},
		},
		{
			name: "several ports", namespace: "given-ports",
			annotations: map[string]string{"redis-tls/host": "redis-k.aivencloud.com", "redis-tls/port": "6379,26379"},
			clusters: []string{
				"6379 redis-k.aivencloud.com", "26379 redis-k.aivencloud.com",
			},
			has: map[string]string{
				"SNI":               `"sni":"redis-k.aivencloud.com"`,
				"an exact SAN":      `"exact":"redis-k.aivencloud.com"`,
				"the proxy's roots": "/etc/ssl/certs/ca-certificates.crt",
				"the trailing dot":  `"address":"redis-k.aivencloud.com."`,
			},
			listeners: []string{"251."},
		},
		{
			name: "an IP", namespace: "given-ip",
			annotations: map[string]string{
				"redis-tls/addresses": "10.11.12.13",
				"redis-tls/port":      "6378",
				"redis-tls/ca-secret": "redis-ca",
			},
			clusters: []string{"6378 10.11.12.13"},
			has: map[string]string{
				"the mounted CA":   "file-root:/etc/redis-tls/ip-10-11-12-13/ca.crt",
				"TLS 1.2 at least": `"tlsMinimumProtocolVersion":"TLSv1_2"`,
			},
			listeners: []string{"10.11.12.13_6378"},
		},
		{
			name: "an IPv6 address", namespace: "given-ipv6",
			annotations: map[string]string{
				"redis-tls/addresses": "fd12:3456::13",
				"redis-tls/port":      "6378",
				"redis-tls/ca-secret": "redis-ca",
			},
			clusters:  []string{"6378 fd12:3456::13"},
			has:       map[string]string{"the mounted CA": "file-root:/etc/redis-tls/ip-fd12-3456-0-0-0-0-0-13/ca.crt"},
			listeners: []string{"fd12:3456::13_6378"},
		},
		{
			name: "a host with an IP, both with TLS", namespace: "given-host-ip",
			annotations: map[string]string{
				"redis-tls/host":      "redis.memorystore-redis",
				"redis-tls/addresses": "10.11.12.14",
				"redis-tls/port":      "6378",
				"redis-tls/ca-secret": "redis-ca",
			},
			clusters:  []string{"6378 redis.memorystore-redis", "6378 10.11.12.14"},
			has:       map[string]string{"the mounted CA": "file-root:/etc/redis-tls/redis.memorystore-redis/ca.crt"},
			listeners: []string{"10.11.12.14_6378", "251."},
		},
		{
			name: "several IPs", namespace: "given-ips",
			annotations: map[string]string{
				"redis-tls/addresses":         "10.11.13.1,10.11.13.2",
				"redis-tls/subject-alt-names": "redis-l.example.com",
				"redis-tls/ca-secret":         "redis-ca",
			},
			clusters: []string{"6379 10.11.13.1", "6379 10.11.13.2"},
			has: map[string]string{
				"the mounted CA":                "file-root:/etc/redis-tls/ip-10-11-13-1-",
				"the node that the app dialled": `"type":"ORIGINAL_DST"`,
				"an exact SAN":                  `"exact":"redis-l.example.com"`,
			},
			listeners: []string{"10.11.13.1_6379", "10.11.13.2_6379"},
		},
		{
			name: "a CIDR", namespace: "given-cidr",
			annotations: map[string]string{"redis-tls/addresses": "10.11.14.0/28", "redis-tls/ca-secret": "redis-ca"},
			clusters:    []string{"6379 10.11.14.0/28"},
			has: map[string]string{
				"the mounted CA":                "file-root:/etc/redis-tls/ip-10-11-14-0-",
				"the node that the app dialled": `"type":"ORIGINAL_DST"`,
			},
			listeners: []string{"0.0.0.0_6379"},
			match:     `"prefixRanges":[{"addressPrefix":"10.11.14.0","prefixLen":28}]`,
		},
		{
			name: "several instances, on one port", namespace: "given-instances",
			annotations: map[string]string{
				"redis-tls/host":            "redis-n.aivencloud.com",
				"sessions.redis-tls/host":   "redis-o.aivencloud.com",
				"locks.redis-tls/addresses": "10.11.12.15",
				"locks.redis-tls/ca-secret": "redis-ca",
			},
			clusters: []string{
				"6379 redis-n.aivencloud.com", "6379 redis-o.aivencloud.com",
				"6379 10.11.12.15",
			},
			each: map[string]string{
				"6379 redis-n.aivencloud.com": `"exact":"redis-n.aivencloud.com"`,
				"6379 redis-o.aivencloud.com": `"exact":"redis-o.aivencloud.com"`,
				"6379 10.11.12.15":            "file-root:/etc/redis-tls/ip-10-11-12-15/ca.crt",
			},
			listeners: []string{"10.11.12.15_6379", "251."},
		},
		{
			name: "a CA in a ConfigMap", namespace: "given-configmap",
			annotations: map[string]string{
				"redis-tls/host":         "redis-q.aivencloud.com",
				"redis-tls/ca-configmap": "trust",
				"redis-tls/ca-key":       "bundle.pem",
			},
			clusters:  []string{"6379 redis-q.aivencloud.com"},
			has:       map[string]string{"the mounted CA": "file-root:/etc/redis-tls/redis-q.aivencloud.com/ca.crt"},
			listeners: []string{"251."},
			nowhere:   []string{"/etc/ssl/certs/ca-certificates.crt"},
		},
		{
			name: "a client certificate", namespace: "given-mutual",
			annotations: map[string]string{
				"redis-tls/host":          "redis-r.aivencloud.com",
				"redis-tls/mode":          "mutual",
				"redis-tls/client-secret": "client",
			},
			clusters: []string{"6379 redis-r.aivencloud.com"},
			has: map[string]string{
				"the mounted pair": "file-cert:/etc/redis-tls/redis-r.aivencloud.com/tls.crt~" +
					"/etc/redis-tls/redis-r.aivencloud.com/tls.key",
				"the mounted CA": "file-root:/etc/redis-tls/redis-r.aivencloud.com/ca.crt",
				"an exact SAN":   `"exact":"redis-r.aivencloud.com"`,
			},
			listeners: []string{"251."},
		},
		{
			name: "a ConfigMap by secret discovery", namespace: "given-sds-configmap",
			annotations: map[string]string{
				"redis-tls/host":         "redis-t.aivencloud.com",
				"redis-tls/ca-configmap": "trust",
				"redis-tls/delivery":     "sds",
			},
			clusters: []string{"6379 redis-t.aivencloud.com"},
			has: map[string]string{
				"the ConfigMap": `"name":"configmap://given-sds-configmap/trust-cacert"`,
				"an exact SAN":  `"exact":"redis-t.aivencloud.com"`,
			},
			listeners: []string{"251."},
			nowhere:   []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/redis-tls/"},
		},
		{
			name: "a Secret's CA by secret discovery", namespace: "given-sds-secret",
			annotations: map[string]string{
				"redis-tls/host":      "redis-u.aivencloud.com",
				"redis-tls/ca-secret": "redis-ca",
				"redis-tls/delivery":  "sds",
			},
			clusters: []string{"6379 redis-u.aivencloud.com"},
			has: map[string]string{
				"the Secret, as a public credential": `"name":"kubernetes://redis-ca-cacert"`,
				"an exact SAN":                       `"exact":"redis-u.aivencloud.com"`,
			},
			listeners: []string{"251."},
			nowhere:   []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/redis-tls/", `"kubernetes://redis-ca"`},
		},
		{
			name: "a client certificate by secret discovery", namespace: "given-sds-mutual",
			annotations: map[string]string{
				"redis-tls/host":          "redis-v.aivencloud.com",
				"redis-tls/mode":          "mutual",
				"redis-tls/client-secret": "client",
				"redis-tls/delivery":      "sds",
			},
			clusters: []string{"6379 redis-v.aivencloud.com"},
			has: map[string]string{
				"the pair":           `"name":"kubernetes://client"`,
				"the CA of the pair": `"name":"kubernetes://client-cacert"`,
				"an exact SAN":       `"exact":"redis-v.aivencloud.com"`,
			},
			listeners: []string{"251."},
			nowhere:   []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/redis-tls/"},
		},
		{
			name: "settings of connections", namespace: "given-connection",
			annotations: map[string]string{
				"redis-tls/host": "redis-s.aivencloud.com", "redis-tls/connect-timeout": "3s", "redis-tls/idle-timeout": "2h",
				"redis-tls/tcp-keepalive": "time=300s,interval=30s,probes=5",
			},
			clusters: []string{"6379 redis-s.aivencloud.com"},
			has: map[string]string{
				"time limit to connect": `"connectTimeout":"3s"`, "an exact SAN": `"exact":"redis-s.aivencloud.com"`,
				"keepalive": `"tcpKeepalive":{"keepaliveProbes":5,"keepaliveTime":300,"keepaliveInterval":30}`,
			},
			listeners: []string{"251."},
			match:     `"idleTimeout":"7200s"`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := namespace(t, b, c.namespace, nil, nil)
			pod := app(ns, "annotated", c.annotations)
			ok(t, b.Client.Create(t.Context(), pod))
			t.Cleanup(func() { _ = b.Client.Delete(context.Background(), pod, client.GracePeriodSeconds(0)) })

			var names []string
			ports, atoms := map[string]bool{}, map[string]bool{}
			each := map[string]string{}
			for _, dialled := range c.clusters {
				name, atom := clusterOf(t, b, pod, dialled)
				names, each[name], atoms[name] = append(names, name), c.each[dialled], atom
			}
			given := givenTLS(t, b, pod, names, host.Address)
			for _, name := range names {
				cluster := compact(find(given.Clusters, name))
				for what, text := range c.has {
					if !strings.Contains(cluster, text) {
						t.Errorf("%s: the cluster has no %s:\n%s", what, text, cluster)
					}
				}
				if !strings.Contains(cluster, each[name]) {
					t.Errorf("cluster %s has no %s:\n%s", name, each[name], cluster)
				}
				if !strings.Contains(compactAll(given.Listeners), `"cluster":"`+name+`"`) {
					t.Errorf("no listener routes to cluster %s", name)
				}
				ports[strings.Split(name, "|")[1]] = true
			}
			for port := range ports {
				listeners := listenersOf(given, port)
				for name, l := range listeners {
					if !slices.ContainsFunc(c.listeners, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
						t.Errorf("listener %s, want only those of %s", name, c.listeners)
					}
					if !slices.ContainsFunc(names, func(cluster string) bool {
						return strings.Contains(l, `"cluster":"`+cluster+`"`)
					}) {
						t.Errorf("listener %s routes to none of the clusters:\n%s", name, l)
					}
					if !strings.Contains(l, c.match) {
						t.Errorf("listener %s has no %s:\n%s", name, c.match, l)
					}
				}
				for _, prefix := range c.listeners {
					if !slices.ContainsFunc(slices.Collect(maps.Keys(listeners)), func(name string) bool {
						return strings.HasPrefix(name, prefix)
					}) {
						t.Errorf("no listener %s for port %s", prefix, port)
					}
				}
			}
			everything := compactAll(given.Clusters) + compactAll(given.Listeners)
			for _, text := range c.nowhere {
				if strings.Contains(everything, text) {
					t.Errorf("%s is in the configuration", text)
				}
			}
			// Only the private name is in the table. DNS resolves the real one.
			for key, name := range c.annotations {
				if strings.HasSuffix(key, "/host") && strings.Contains(compactAll(given.NameTable), `"`+name+`"`) {
					t.Errorf("the name table has %s", name)
				}
			}
			neighbours(t, b, ns, atoms, host)
			silence(t, b, ns)
		})
	}
}

// TestConfigurationFromIstiodWithIPv6: if the chart has an IPv6 range, hosts have an IPv6 VIP and an IPv4 VIP, for each
// family of the pod's network.
func TestConfigurationFromIstiodWithIPv6(t *testing.T) {
	b := mesh(t)
	configure(t, b, map[string]any{"vip": map[string]any{"ipv6CIDR": "fd00:240:241::/112"}})
	ns := namespace(t, b, "given-vips", nil, nil)
	pod := app(ns, "annotated", map[string]string{
		"redis-tls/host":        "redis-p.aivencloud.com",
		"redis-tls/target-port": "16222",
	})
	ok(t, b.Client.Create(t.Context(), pod))
	t.Cleanup(func() { _ = b.Client.Delete(context.Background(), pod, client.GracePeriodSeconds(0)) })
	var vips []string
	for _, alias := range pod.Spec.HostAliases {
		if slices.Contains(alias.Hostnames, "redis-p.aivencloud.com") {
			vips = append(vips, alias.IP)
		}
	}
	slices.Sort(vips)
	name, _ := clusterOf(t, b, pod, "6379 redis-p.aivencloud.com")
	if len(vips) != 2 || !strings.HasPrefix(vips[0], "251.") || !strings.HasPrefix(vips[1], "fd00:240:241::") {
		t.Fatalf("the pod has the addresses %q, want an IPv4 VIP and an IPv6 VIP", vips)
	}
	v4, v6 := netip.MustParseAddr("10.9.8.7"), netip.MustParseAddr("fd09::7")
	for _, c := range []struct {
		name      string
		addresses []netip.Addr
		family    string // of the server's addresses that Envoy resolves
	}{
		{"an IPv4 pod", []netip.Addr{v4}, "V4_ONLY"},
		// Istio's default; ALL if istiod runs with ISTIO_DUAL_STACK.
		{"a dual-stack pod", []netip.Addr{v4, v6}, "V4_ONLY"},
		{"a dual-stack pod, IPv6 first", []netip.Addr{v6, v4}, "V4_ONLY"},
		{"an IPv6 pod", []netip.Addr{v6}, "V6_ONLY"},
	} {
		t.Run(c.name, func(t *testing.T) {
			given := givenTLS(t, b, pod, []string{name}, c.addresses...)
			cluster := compact(find(given.Clusters, name))
			for _, text := range []string{
				`"sni":"redis-p.aivencloud.com"`,
				`"exact":"redis-p.aivencloud.com"`,
				`"dnsLookupFamily":"` + c.family + `"`,
			} {
				if !strings.Contains(cluster, text) {
					t.Errorf("the cluster has no %s:\n%s", text, cluster)
				}
			}
			listeners := listenersOf(given, "6379")
			var names []string
			for _, vip := range vips {
				names = append(names, vip+"_6379")
				if l := listeners[vip+"_6379"]; !strings.Contains(l, `"address":"`+vip+`"`) ||
					!strings.Contains(l, `"cluster":"`+name+`"`) {
					t.Errorf("the listener of %s does not route to the cluster: %q", vip, l)
				}
			}
			if got := slices.Sorted(maps.Keys(listeners)); !slices.Equal(got, names) {
				t.Errorf("listeners %q, want %q", got, names)
			}
		})
	}
	neighbours(t, b, ns, map[string]bool{name: false}, &bed.Host{Address: v6})
	silence(t, b, ns)
}

// givenTLS waits until istiod sends the pod's sidecar the clusters, each with TLS. The addresses are the pod's.
func givenTLS(
	t *testing.T, b *bed.Bed, pod *corev1.Pod, clusters []string, addresses ...netip.Addr,
) (given *bed.Given) {
	t.Helper()
	ok(t, harness.Eventually(t.Context(), 30*time.Second, "the clusters with TLS", func(ctx context.Context) (err error) {
		if given, err = b.Given(ctx, pod, addresses[0], true, addresses[1:]...); err != nil {
			return err
		}
		for _, name := range clusters {
			if cluster := compact(find(given.Clusters, name)); !strings.Contains(cluster, "UpstreamTlsContext") {
				return fmt.Errorf("cluster %s: %q", name, cluster)
			}
		}
		return nil
	}))
	return given
}

// listenersOf returns the listeners of a port by name, which is ADDRESS_PORT, without spaces.
func listenersOf(given *bed.Given, port string) map[string]string {
	listeners := map[string]string{}
	for _, l := range given.Listeners {
		if name := nameOf(l); strings.HasSuffix(name, "_"+port) {
			listeners[name] = compact(l)
		}
	}
	return listeners
}

// clusterOf returns the name of the cluster for a port and what the app dials, "6379 redis.example.com" or
// "6379 10.0.0.0/28", and whether it is one of addresses.
func clusterOf(t *testing.T, b *bed.Bed, pod *corev1.Pod, target string) (name string, atom bool) {
	t.Helper()
	port, dialled, _ := strings.Cut(target, " ")
	_, notIP := netip.ParseAddr(dialled)
	if _, notCIDR := netip.ParsePrefix(dialled); notIP != nil && notCIDR != nil {
		return "outbound|" + port + "||" + privateHost(t, b, pod, dialled), false
	}
	number, err := strconv.ParseUint(port, 10, 16)
	ok(t, err)
	return "outbound|" + port + "||" + atomHost(t, b, pod.Namespace, dialled, uint32(number)), true
}

// neighbours fails if an unannotated pod of the namespace gets other TLS than that of a closed rule behind a VIP, or
// any TLS at an address, or if a pod of another namespace gets anything. The values of clusters are true for addresses.
func neighbours(t *testing.T, b *bed.Bed, ns string, clusters map[string]bool, host *bed.Host) {
	t.Helper()
	neighbour, err := b.Given(t.Context(), app(ns, "neighbour", nil), host.Address, true)
	ok(t, err)
	stranger, err := b.Given(t.Context(), app("default", "stranger", nil), host.Address, true)
	ok(t, err)
	for cluster, atom := range clusters {
		text := compact(find(neighbour.Clusters, cluster))
		closed := strings.Contains(text, `"sni":"closed.redis-tls.internal"`) &&
			strings.Contains(text, `"exact":"closed.redis-tls.internal"`) &&
			strings.Count(text, `"exact":`) == 1 && !strings.Contains(text, "/etc/redis-tls/")
		switch {
		case atom && strings.Contains(text, "UpstreamTlsContext"):
			t.Errorf("a neighbour gets the TLS settings: %s", text)
		case !atom && !closed:
			t.Errorf("a neighbour does not get the closed rule: %s", text)
		}
		if found := find(stranger.Clusters, cluster); found != nil {
			t.Errorf("another namespace gets the cluster: %s", found)
		}
	}
}

// silence fails if Istio's analyzers report anything about the managed objects of the namespace.
func silence(t *testing.T, b *bed.Bed, ns string) {
	t.Helper()
	objects := []client.Object{}
	pods := &corev1.PodList{}
	for _, list := range []client.ObjectList{
		&networkingv1.ServiceEntryList{}, &networkingv1.DestinationRuleList{}, &networkingv1.VirtualServiceList{},
		&networkingv1.SidecarList{}, &securityv1.PeerAuthenticationList{}, pods,
	} {
		ok(t, b.Client.List(t.Context(), list, client.InNamespace(ns)))
		ok(t, meta.EachListItem(list, func(o runtime.Object) error {
			objects = append(objects, o.(client.Object))
			return nil
		}))
	}
	if len(objects) < 3 {
		t.Fatalf("%d objects in %s, want an entry, a rule and a pod at least", len(objects), ns)
	}
	messages, err := b.Analyze(t.Context(), objects...)
	ok(t, err)
	for _, m := range messages {
		text := fmt.Sprint(m)
		if slices.ContainsFunc([]string{
			"ServiceEntry",
			"DestinationRule",
			"VirtualService",
			"Sidecar",
			"PeerAuthentication",
		}, func(kind string) bool { return strings.Contains(text, kind) }) {
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

// TestAnalyzersReportARuleWithoutVerification is the control of silence: Istio's analyzers do report a problem.
func TestAnalyzersReportARuleWithoutVerification(t *testing.T) {
	b := mesh(t)
	rule := &networkingv1.DestinationRule{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "careless"}}
	rule.Spec.Host = "redis.example.com"
	rule.Spec.TrafficPolicy = &networking.TrafficPolicy{
		Tls: &networking.ClientTLSSettings{Mode: networking.ClientTLSSettings_SIMPLE},
	}
	messages, err := b.Analyze(t.Context(), rule)
	ok(t, err)
	if !strings.Contains(fmt.Sprint(messages), "DestinationRule") {
		t.Errorf("messages %v, want one of the rule without caCertificates", messages)
	}
}
