package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestGateWithoutIstiod: the API server accepts the objects of a pod that dials an IP, and no istiod reads them. It is
// what redis-tls sees in a remote cluster of a primary-remote mesh, whose istiod reads the objects of its own cluster.
func TestGateWithoutIstiod(t *testing.T) {
	c := start(t, setup{values: map[string]any{"firstUse": map[string]any{"acknowledgement": true}}})
	ns := c.namespace("unread", nil, nil)
	p := c.admitted(pod(ns, "first", dialling()))
	c.waitForObjects(ns, 2, 1)
	accepted := time.Now()
	c.waitForEvent(ns, "WaitingForFirstUse", "redis-tls-acknowledgement", "another cluster")
	c.eventually("the objects to be older than firstUse.delay", func(context.Context) error {
		if age := time.Since(accepted); age < 4*time.Second {
			return fmt.Errorf("they are %s old", age)
		}
		return nil
	})
	wantGates(c, c.live(p), gate)
	wantGates(c, c.admitted(pod(ns, "second", dialling())), gate)

	entry := &networkingv1.ServiceEntry{}
	c.must(c.Client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "redis-tls-acknowledgement"}, entry))
	entry.Status.Addresses = []*networkingapi.ServiceEntryAddress{{Value: "240.240.0.1", Host: entry.Spec.Hosts[0]}}
	c.must(c.Client.Status().Update(t.Context(), entry))
	c.waitForGates(p)
	wantGates(c, c.admitted(pod(ns, "third", dialling())))
}
