package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
	"github.com/redis-tls/redis-tls/test/soak/result"
)

// churnLabel is the label of the namespaces that come and go.
const churnLabel = "soak/churn"

// churnRate is the number of namespaces that are created, and later deleted, in a second.
const churnRate = 5

// churned creates namespaces with one pod each, and deletes a namespace soon after the pod has its objects. It waits
// until all are gone: nothing may keep a namespace from its end, or write into it.
func churned(d time.Duration) fault {
	return fault{name: fmt.Sprintf("%d namespaces a second", churnRate), inject: func(ctx context.Context, s *soak) error {
		k := kind{name: "in a new namespace", annotations: byName(0).annotations, life: 2 * time.Second, tenant: true}
		p := s.driver.phase.Load()
		tick := time.NewTicker(time.Second / churnRate)
		defer tick.Stop()
		var all sync.WaitGroup
		var mu sync.Mutex
		var failed []error
		count := int(d.Seconds()) * churnRate
		for n := range count {
			<-tick.C
			all.Go(func() {
				namespace := fmt.Sprintf("churn-%d", n)
				labels := map[string]string{"istio-injection": "enabled", churnLabel: ""}
				if err := s.Namespace(ctx, namespace, labels, nil); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed = append(failed, err)
					return
				}
				s.driver.create(ctx, p, &k, k.pod(namespace, n), time.Now())
			})
		}
		all.Wait()
		if failed != nil {
			return errors.Join(failed...)
		}
		return harness.Eventually(ctx, recovery, "the namespaces to be gone", func(ctx context.Context) error {
			var left corev1.NamespaceList
			if err := s.Client.List(ctx, &left, client.HasLabels{churnLabel}); err != nil {
				return err
			}
			if n := len(left.Items); n > 0 {
				return fmt.Errorf("%d exist: %s: %+v", n, left.Items[0].Name, left.Items[0].Status)
			}
			return nil
		})
	}}
}

// maxKeys is the soak's policy.maxKeysPerNamespace. While watches lag, the hosts that are always new add up.
const maxKeys = 300

// flooded creates pods of new hosts in one namespace, as fast as sixteen clients can, until 50 were refused for the
// limit of keys. Reviews in flight do not know each other's keys, so each client may exceed the limit by one.
func flooded() fault {
	return fault{name: "a flood of keys", inject: func(ctx context.Context, s *soak) error {
		const clients, refusals = 16, 50
		k := newHost(time.Minute)
		k.name, k.place, k.limited, k.refused = "flood", "flood", true, "policy.maxKeysPerNamespace"
		p := s.driver.phase.Load()
		var all sync.WaitGroup
		var mu sync.Mutex
		var next, admitted, refused int
		for range clients {
			all.Go(func() {
				for {
					mu.Lock()
					n := next
					next++
					stop := refused >= refusals || n >= 2*maxKeys || ctx.Err() != nil
					mu.Unlock()
					if stop {
						return
					}
					_, r := s.driver.create(ctx, p, &k, k.pod(p.namespace(k.place), n), time.Now())
					mu.Lock()
					switch r.Outcome {
					case result.Admitted:
						admitted++
					case result.Refused:
						refused++
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		s.say("  %d keys were admitted, and %d refused", admitted, refused)
		if admitted < maxKeys || admitted > maxKeys+clients || refused < refusals {
			return fmt.Errorf("want %d keys, at most %d more, and %d refusals", maxKeys, clients, refusals)
		}
		// A pod of a key that is served is admitted at the limit.
		again := k.pod(p.namespace(k.place), 0)
		again.Name = "again"
		if _, r := s.driver.create(ctx, p, &k, again, time.Now()); r.Outcome != result.Admitted {
			return fmt.Errorf("a pod of a served key was not admitted: %s", r.Outcome)
		}
		return nil
	}}
}

// moved changes the range of VIPs. New keys have VIPs of the new range, and the next pod of a running pod's key has the
// VIP of that pod. During the upgrade no pod has a new key: if a replica of the old range admits it, and one of the new
// range leads before its objects exist, they are refused.
func moved() fault {
	const cidr, prefix = "252.0.0.0/8", "252."
	old, fresh := byName(0), newHost(short)
	return fault{name: "vip.cidr changed", inject: func(ctx context.Context, s *soak) error {
		p := s.driver.phase.Load()
		was, err := s.admit(ctx, p, &old, "before")
		if err != nil {
			return err
		}
		s.driver.known.Store(true)
		defer s.driver.known.Store(false)
		wait(ctx, short) // until the latest new keys have their objects
		if err := s.upgrade(ctx, "vip", map[string]any{"cidr": cidr}); err != nil {
			return err
		}
		is, err := s.admit(ctx, p, &old, "after")
		if err != nil {
			return err
		}
		if was, is := was.Spec.HostAliases[0].IP, is.Spec.HostAliases[0].IP; was != is {
			return fmt.Errorf("the next pod of a key has the VIP %s, and the running one %s", is, was)
		}
		next, err := s.admit(ctx, p, &fresh, "fresh")
		if err != nil {
			return err
		}
		if ip := next.Spec.HostAliases[0].IP; !strings.HasPrefix(ip, prefix) {
			return fmt.Errorf("a new key has the VIP %s, want one of %s", ip, cidr)
		}
		return nil
	}}
}

// narrowed runs pods of a host and of an address, and then forbids both. The pods keep what they have, and the next
// ones are refused.
func narrowed() fault {
	host := kind{name: "a host that is forbidden later", place: "names",
		annotations: fixed("host", "redis.example.org", "ca-secret", "redis-ca")}
	address := kind{name: "an address that is forbidden later", place: "addresses",
		annotations: fixed("addresses", "203.0.113.7", "ca-secret", "redis-ca")}
	prepare := func(ctx context.Context, s *soak) error {
		p := s.driver.phase.Load()
		for _, k := range []*kind{&host, &address} {
			pod, err := s.admit(ctx, p, k, "running")
			if err != nil {
				return err
			}
			err = harness.Eventually(ctx, recovery, "pod "+pod.Name+" to run", func(ctx context.Context) error {
				n, err := s.namespace(ctx, pod.Namespace)
				if err != nil {
					return err
				}
				for _, running := range result.Running(n, s.cfg).Pods {
					if running.Name == pod.Name {
						return nil
					}
				}
				return errors.New("it waits")
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	return fault{name: "policy narrowed", prepare: prepare, inject: func(ctx context.Context, s *soak) error {
		p := s.driver.phase.Load()
		err := s.upgrade(ctx, "policy", map[string]any{
			"maxKeysPerNamespace": maxKeys,
			"allowedHosts":        []any{"*.example.com"},
			"allowedCIDRs":        []any{"10.0.0.0/8"},
		})
		if err != nil {
			return err
		}
		host, address := host, address
		host.refused, address.refused = "policy.allowedHosts", "policy.allowedCIDRs"
		for _, k := range []*kind{&host, &address} {
			s.driver.create(ctx, p, k, k.named(p, "narrowed"), time.Now())
		}
		return nil
	}}
}

// upgrade changes a value of the chart as `helm upgrade` does.
func (s *soak) upgrade(ctx context.Context, key string, value map[string]any) (err error) {
	s.kubelet.Lock() // a stopped replica must not be started again
	defer s.kubelet.Unlock()
	s.values[key] = value
	if s.release, err = s.RenderChart(s.values); err != nil {
		return err
	}
	if err := s.Apply(ctx, s.release); err != nil {
		return err
	}
	return s.replicas.Roll(ctx, s.release, s.options)
}

// admit creates a pod that must be admitted.
func (s *soak) admit(ctx context.Context, p *phase, k *kind, name string) (*corev1.Pod, error) {
	created, r := s.driver.create(ctx, p, k, k.named(p, name), time.Now())
	if created == nil {
		return nil, fmt.Errorf("pod %s was not admitted: %s", r.Name, r.Why)
	}
	return created, nil
}

// named returns a pod of the kind with another name than the driver's.
func (k *kind) named(p *phase, name string) *corev1.Pod {
	pod := k.pod(p.namespace(k.place), 1<<20)
	pod.ObjectMeta = metav1.ObjectMeta{Namespace: pod.Namespace, Name: name, Annotations: pod.Annotations}
	return pod
}
