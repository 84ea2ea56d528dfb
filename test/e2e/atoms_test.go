package e2e

import (
	"context"
	"net/netip"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
)

// TestAtoms: pods of one namespace dial servers by address: two CIDRs, an address inside one of them, and one address
// with two sets of ports. Each pod has its own CA and name, whichever entry a connection matches.
func TestAtoms(t *testing.T) {
	b := mesh(t)
	ns := namespace(t, b, "atoms", nil, nil)
	ranges, err := b.Reserve(28, 2)
	ok(t, err)
	at := func(n, offset int) netip.Addr {
		a := ranges[n].Addr()
		for range offset {
			a = a.Next()
		}
		return a
	}
	hosts := map[string]*bed.Host{}
	place := func(name string, address netip.Addr, names []string, tlsPorts ...uint16) {
		t.Helper()
		ca := newCA(t, name)
		secret(t, b, ns, name, "ca.crt", ca.PEM())
		h, err := b.HostAt(name, address)
		ok(t, err)
		for i, port := range tlsPorts {
			_, err := h.RunRedis(t.Context(), bed.RedisOptions{Port: 7000 + uint16(i), TLSPort: port, Leaf: issue(t, ca, names)})
			ok(t, err)
		}
		hosts[name] = h
	}
	place("first", at(0, 1), []string{"first.example.com"}, 6379)
	place("inside", at(0, 5), []string{"inside.example.com"}, 6379)
	place("second", at(1, 1), []string{"second.example.com"}, 6379)
	place("shared", at(1, 3), []string{"one.example.com", "two.example.com"}, 6379, 6380)
	shared := hosts["shared"].Address.String()

	annotated := func(name, ca, addresses, port, san string) *corev1.Pod {
		pod := app(ns, name, map[string]string{
			"redis-tls/addresses":         addresses,
			"redis-tls/port":              port,
			"redis-tls/ca-secret":         ca,
			"redis-tls/subject-alt-names": san,
		})
		ok(t, b.Client.Create(t.Context(), pod))
		return pod
	}
	pods := map[string]*bed.Pod{"first": launch(
		t, b, *annotated("first", "first", ranges[0].String(), "6379", "first.example.com"),
	)}
	inside := hosts["inside"].Address.String()
	capture, stop := record(t, hosts["inside"]), keepCalling(t, pods["first"], inside, 6379)
	pods["inside"] = launch(t, b, *annotated("inside", "inside", inside, "6379", "inside.example.com"))
	answers(t, pods["inside"], inside, 6379, "PONG", "PING")
	stop()
	t.Run("creating a pod for an address inside another pod's CIDR exposes nothing", func(t *testing.T) {
		seesTLSOf(t, capture, pods["first"])
	})
	created := []*corev1.Pod{
		annotated("second", "second", ranges[1].String(), "6379", "second.example.com"),
		annotated("one-port", "shared", shared, "6379", "one.example.com"),
		annotated("two-ports", "shared", shared, "6379,6380", "two.example.com"),
		annotated("wrong-name", "shared", shared, "6379", "three.example.com"),
	}
	for _, pod := range created {
		pods[pod.Name] = launch(t, b, *pod)
	}
	captures := map[string]*bed.Capture{}
	for name, h := range hosts {
		captures[name] = record(t, h)
	}
	answered := func(t *testing.T) {
		t.Helper()
		for _, c := range []struct {
			pod, server string
			port        int
		}{
			{"first", "first", 6379},
			{"inside", "inside", 6379},
			{"second", "second", 6379},
			{"one-port", "shared", 6379},
			{"two-ports", "shared", 6379},
			{"two-ports", "shared", 6380},
		} {
			answers(t, pods[c.pod], hosts[c.server].Address.String(), c.port, "PONG", "PING")
		}
	}
	t.Run("each pod is answered by its own server", answered)
	t.Run("a server of its CIDR with another CA does not answer", func(t *testing.T) {
		refused(t, pods["first"], inside, 6379)
		refused(t, pods["second"], shared, 6379)
	})
	t.Run("a name that the certificate does not have fails only that pod", func(t *testing.T) {
		refused(t, pods["wrong-name"], shared, 6379)
		answered(t)
	})
	t.Run("without the older entry of the address both pods are still answered", func(t *testing.T) {
		older := entryOf(t, b, ns, atomHost(t, b, ns, shared, 6379))
		stall(t, b)
		take(t, b, pods["one-port"], privateClusters, "outbound|6379||"+older.Spec.Hosts[0], older)
		answered(t)
		refused(t, pods["wrong-name"], shared, 6379)
	})
	for name, c := range captures {
		if n := onlyTLS(t, c, 6379); n == 0 {
			t.Errorf("server %s has no connection", name)
		}
	}

	neighbour := run(t, b, app(ns, "neighbour", nil))
	t.Run("a neighbour's calls stay as they are", func(t *testing.T) {
		ca := &corev1.Secret{}
		for name, h := range hosts {
			answers(t, neighbour, h.Address.String(), 7000, "PONG", "PING")
			ok(t, b.Client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, ca))
			file, err := b.File("atoms-"+name+".crt", ca.Data["ca.crt"])
			ok(t, err)
			answers(t, neighbour, h.Address.String(), 6379, "PONG", "--tls", "--cacert", file, "PING")
		}
		capture := record(t, hosts["first"])
		refused(t, neighbour, hosts["first"].Address.String(), 6379, authenticated("PING")...)
		inClear(t, capture, 6379, password)
	})
	silence(t, b, ns)
	t.Run("deleting that pod exposes nothing either", func(t *testing.T) {
		cluster := "outbound|6379||" + atomHost(t, b, ns, inside, 6379)
		configure(t, b, quickCleanup)
		capture, stop := record(t, hosts["inside"]), keepCalling(t, pods["first"], inside, 6379)
		ok(t, pods["inside"].Delete(t.Context()))
		waitFor(t, pods["first"], privateClusters, cluster, false)
		stop()
		seesTLSOf(t, capture, pods["first"])
	})
}

// keepCalling makes the pod's app call the address, which does not answer, until the returned function stops it.
func keepCalling(t *testing.T, p *bed.Pod, address string, port int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if got, err := p.Redis(ctx, address, port, "PING"); err == nil {
				t.Errorf("%s answered %q, want no answer", address, got)
			}
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// seesTLSOf ends the capture. It fails if a client sent anything but TLS, or if the pod sent nothing.
func seesTLSOf(t *testing.T, c *bed.Capture, p *bed.Pod) {
	t.Helper()
	n := onlyTLS(t, c, 6379, p.Host.Address)
	if t.Logf("%d connections", n); n == 0 {
		t.Errorf("no connection of pod %s was seen on the wire", p.Name)
	}
}

// entryOf returns the entry of the host.
func entryOf(t *testing.T, b *bed.Bed, ns, host string) *networkingv1.ServiceEntry {
	t.Helper()
	entries := &networkingv1.ServiceEntryList{}
	ok(t, b.Client.List(t.Context(), entries, client.InNamespace(ns)))
	for _, e := range entries.Items {
		if e.Spec.Hosts[0] == host {
			return e
		}
	}
	t.Fatalf("%s is not among %d entries", host, len(entries.Items))
	return nil
}
