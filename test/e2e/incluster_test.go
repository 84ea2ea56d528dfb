package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// TestTLSServiceOfTheCluster: servers of the cluster with TLS of their own. One has its own namespace without injection
// and requires a client certificate, the other has a sidecar that accepts everything.
func TestTLSServiceOfTheCluster(t *testing.T) {
	b := mesh(t)
	ns := namespace(t, b, "tls-cluster", nil, nil)
	db := namespace(t, b, "tls-db", nil, nil)
	servers, clients := newCA(t, "Servers"), newCA(t, "Clients")
	for _, namespace := range []string{ns, db} {
		clientSecret(t, b, namespace, "redis-client", issue(t, clients, []string{"cart"}), servers.PEM())
		secret(t, b, namespace, "other-ca", "ca.crt", newCA(t, "Others").PEM())
	}
	certificate := issue(t, servers, []string{"redis." + db + ".svc", "*.redis." + db + ".svc.cluster.local"})
	var redis []*bed.Host
	for range 2 {
		redis = append(redis, server(t, b, "", bed.RedisOptions{
			TLSPort: 6379, Leaf: certificate, ClientCA: clients.PEM(), Args: []string{"--requirepass", password},
		}))
	}
	headless(t, b, db, "redis", redis...)
	keys := map[string]string{
		"redis-tls/host":          "redis." + db,
		"redis-tls/nodes":         "redis-{0..1}.redis." + db + ".svc",
		"redis-tls/mode":          "mutual",
		"redis-tls/client-secret": "redis-client",
	}
	const full = "redis.tls-db.svc.cluster.local"

	t.Run("a Service of another namespace is refused, and the message has the value for the policy", func(t *testing.T) {
		err := b.Client.Create(t.Context(), app(ns, "denied", keys))
		if err == nil || !strings.Contains(err.Error(), "policy.allowedHosts") ||
			!strings.Contains(err.Error(), `add "`+full+`"`) {
			t.Errorf("the answer is %v", err)
		}
	})
	configure(t, b, map[string]any{"policy": map[string]any{
		"mode": "enforce", "allowedHosts": []any{"*.tls-db.svc.cluster.local"},
	}})
	names := []string{"redis.tls-db", "redis.tls-db.svc", full}
	for i := range redis {
		node := fmt.Sprintf("redis-%d.redis.tls-db", i)
		names = append(names, node, node+".svc", node+".svc.cluster.local")
	}
	outside := run(t, b, app(ns, "client", keys))
	t.Run("each name of it is dialled with TLS", func(t *testing.T) {
		reachedByAll(t, outside, redis, names)
	})
	t.Run("a pod of its own namespace also dials the short names", func(t *testing.T) {
		neighbour := run(t, b, app(db, "client", keys))
		reachedByAll(t, neighbour, redis, append(slices.Clone(names), "redis", "redis-0.redis", "redis-1.redis"))
	})
	t.Run("another CA is refused", func(t *testing.T) {
		other := map[string]string{"redis-tls/ca-secret": "other-ca"}
		for key, value := range keys {
			other[key] = value
		}
		p := run(t, b, app(ns, "other-ca", other))
		knows(t, p, 6379, privateHost(t, b, p.Pod, full))
		for _, name := range names {
			refused(t, p, name, 6379, authenticated("PING")...)
		}
	})
	t.Run("a server with a sidecar in mode PERMISSIVE", func(t *testing.T) {
		store := run(t, b, app(ns, "store", nil))
		_, err := store.Host.RunRedis(t.Context(), bed.RedisOptions{
			TLSPort: 6379, Leaf: issue(t, servers, []string{"store." + ns}), Args: []string{"--requirepass", password},
		})
		ok(t, err)
		headless(t, b, ns, "store", store.Host)
		p := run(t, b, app(ns, "store-client", map[string]string{
			"redis-tls/host": "store", "redis-tls/ca-secret": "redis-client",
		}))
		reachedByAll(t, p, []*bed.Host{store.Host}, []string{
			"store", "store.tls-cluster", "store.tls-cluster.svc", "store.tls-cluster.svc.cluster.local",
		})
	})
	t.Run("without its entries nothing is sent by any name", func(t *testing.T) {
		captures := recordAll(t, redis)
		o := objectsOf(t, b, outside.Pod, full)
		stall(t, b)
		take(t, b, outside, privateClusters, "outbound|6379||"+o.entry.Spec.Hosts[0], o.entry)
		for _, name := range names[:3] {
			refused(t, outside, name, 6379, authenticated("PING")...)
		}
		if n := onlyTLSAtAll(t, captures, outside); n > 0 {
			t.Errorf("%d connections were seen on the wire", n)
		}

		// Control: without the VIP, the same command sends the password in plaintext to the Service.
		ok(t, outside.DropAliases())
		capture := record(t, redis[0])
		refused(t, outside, "redis-0.redis.tls-db", 6379, authenticated("PING")...)
		inClear(t, capture, 6379, password)
	})
	silence(t, b, ns)
}

// TestExampleInTheCluster applies the example, annotated and written by hand, with a server and certificates of the
// test.
func TestExampleInTheCluster(t *testing.T) {
	b := mesh(t)
	const ns = "in-cluster"
	servers := newCA(t, "Servers")
	redis := server(t, b, "", bed.RedisOptions{TLSPort: 6379, Leaf: issue(t, servers, []string{
		"redis." + ns + ".svc.cluster.local", "*.redis." + ns + ".svc.cluster.local",
	})})
	for _, dir := range []string{"", "by-hand"} {
		t.Run("in-cluster "+dir, func(t *testing.T) {
			ok(t, harness.Eventually(t.Context(), time.Minute, "the namespace of the other version to be gone", func(
				ctx context.Context,
			) error {
				err := b.Client.Get(ctx, client.ObjectKey{Name: ns}, &corev1.Namespace{})
				if !apierrors.IsNotFound(err) {
					return fmt.Errorf("the answer is %w", err)
				}
				return nil
			}))
			namespace(t, b, ns, map[string]string{"istio-injection": "enabled"}, nil)
			secret(t, b, ns, "redis-ca", "ca.crt", servers.PEM())
			headless(t, b, ns, "redis", redis)
			reaches(t, b, filepath.Join("in-cluster", dir), ns, redis, "redis", 6379,
				"Service", "StatefulSet", "Issuer", "Certificate") // the test has its own
		})
	}
}

// reachedByAll requires that the pod reaches the servers by each name, and with TLS only.
func reachedByAll(t *testing.T, p *bed.Pod, servers []*bed.Host, names []string) {
	t.Helper()
	captures := recordAll(t, servers)
	for _, name := range names {
		answers(t, p, name, 6379, "PONG", authenticated("PING")...)
	}
	if n := onlyTLSAtAll(t, captures, p); n < len(names) {
		t.Errorf("%d connections were seen on the wire, want one by each of %q", n, names)
	}
}

func recordAll(t *testing.T, servers []*bed.Host) (captures []*bed.Capture) {
	t.Helper()
	for _, h := range servers {
		captures = append(captures, record(t, h))
	}
	return captures
}

// onlyTLSAtAll is onlyTLS for the pod's connections to several servers.
func onlyTLSAtAll(t *testing.T, captures []*bed.Capture, p *bed.Pod) (n int) {
	t.Helper()
	for _, c := range captures {
		n += onlyTLS(t, c, 6379, p.Host.Address)
	}
	return n
}

// headless creates a headless Service of the servers, as a StatefulSet has one: DNS has the Service and each server.
func headless(t *testing.T, b *bed.Bed, ns, name string, servers ...*bed.Host) {
	t.Helper()
	tcp, port := corev1.ProtocolTCP, corev1.ServicePort{Name: "tcp-redis", Port: 6379, Protocol: corev1.ProtocolTCP}
	ok(t, b.Client.Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{port}},
	}))
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: ns,
			Name:      name,
			Labels:    map[string]string{discoveryv1.LabelServiceName: name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &port.Name, Port: &port.Port, Protocol: &tcp}},
	}
	full := name + "." + ns + ".svc.cluster.local"
	var addresses []netip.Addr
	for i, h := range servers {
		pod := fmt.Sprintf("%s-%d", name, i)
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{h.Address.String()}, Hostname: &pod,
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)},
		})
		b.DNS.Set(pod+"."+full, h.Address)
		addresses = append(addresses, h.Address)
	}
	b.DNS.Set(full, addresses...)
	ok(t, b.Client.Create(t.Context(), slice))
}
