package controller

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// caught returns the problems of the API server's objects: each entry that may catch a connection of a running pod
// without the pod's TLS. Of rules with one host and selector Istio takes only the oldest (mergeDestinationRule,
// pilot/pkg/model/destination_rule.go).
func (w *world) caught(namespace string) []string {
	w.t.Helper()
	snap := w.nowIn(namespace)
	rules := oldestRules(snap)
	var problems []string
	behindVIPs := false
	for _, e := range snap.Entries {
		host := firstOf(e.Spec.Hosts)
		if e.Namespace != namespace || !mesh.IsManaged(e) || !strings.HasSuffix(host, origination.VIPSuffix) {
			continue
		}
		behindVIPs = true
		key := origination.Group(host)
		if r := rules["*."+key+origination.VIPSuffix+" "+origination.LabelKeyPrefix+key]; r == nil {
			problems = append(problems, fmt.Sprintf("entry %s is without the rule of its key", e.Name))
		}
		if r := rules["*."+key+origination.VIPSuffix+" "]; r == nil ||
			r.Spec.TrafficPolicy.GetTls().GetMode() != networking.ClientTLSSettings_ISTIO_MUTUAL {
			problems = append(problems, fmt.Sprintf("entry %s is without its closed rule", e.Name))
		}
	}
	if rules["*"+origination.VIPSuffix+" "] == nil && behindVIPs && !w.closedFails {
		problems = append(problems, "entries are without the namespace's closed rule")
	}
	for _, r := range w.running(namespace) {
		for i := range r.Originations {
			for _, problem := range caughtOf(&r.Originations[i], snap, rules) {
				problems = append(problems, "pod "+r.Pod+": "+problem)
			}
		}
	}
	return problems
}

// oldestRules returns the managed rules by host and label, as Istio takes them.
func oldestRules(snap *mesh.Snapshot) map[string]*networkingv1.DestinationRule {
	rules := map[string]*networkingv1.DestinationRule{}
	slices.SortStableFunc(snap.Rules, func(a, b *networkingv1.DestinationRule) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	for _, r := range snap.Rules {
		key := r.Spec.Host + " " + selectedLabel(kindRule.wrap(r))
		if _, older := rules[key]; !older && mesh.IsManaged(r) {
			rules[key] = r
		}
	}
	return rules
}

// running returns the requests of the API server's live pods that are not gated and were admitted by the webhook.
func (w *world) running(namespace string) []mesh.Request {
	w.t.Helper()
	var pods []*cluster.Pod
	if w.truth != nil {
		pods = w.truth.podsIn(namespace)
	} else {
		var list corev1.PodList
		w.must(w.client.List(context.Background(), &list, client.InNamespace(namespace)))
		for i := range list.Items {
			pods = append(pods, cluster.Trim(&list.Items[i]))
		}
	}
	return w.caches.LiveOf(namespace, slices.DeleteFunc(pods, func(pod *cluster.Pod) bool {
		return waiting(pod) || strings.HasPrefix(pod.Name, forged)
	})).Requests
}

// forged is the prefix of the names of pods that bypass the webhook.
const forged = "forged"

func waiting(pod *cluster.Pod) bool {
	return slices.ContainsFunc(pod.SchedulingGates, func(g corev1.PodSchedulingGate) bool {
		return g.Name == origination.GateFirstUse
	})
}

// caughtOf returns the entries that may catch the origination's connections without its TLS. It skips those of VIPs,
// which have at least the closed rule.
func caughtOf(
	o *origination.Origination, snap *mesh.Snapshot, rules map[string]*networkingv1.DestinationRule,
) []string {
	var problems []string
	for _, e := range snap.Entries {
		if e.Namespace != snap.Namespace || !mesh.IsManaged(e) {
			continue
		}
		host := firstOf(e.Spec.Hosts)
		switch {
		case o.HTTP() && host == o.Host:
		case len(e.Spec.Addresses) == 1 && within(e.Spec.Addresses[0], o.DialledAddresses()) &&
			strings.HasSuffix(host, origination.AtomSuffix):
		default:
			continue
		}
		for _, p := range o.Ports {
			if !slices.ContainsFunc(e.Spec.Ports, func(q *networking.ServicePort) bool {
				return int32(q.GetNumber()) == p.Number
			}) {
				continue
			}
			r := rules[host+" "+o.Label()]
			if !slices.ContainsFunc(policyOf(r).GetPortLevelSettings(), func(
				s *networking.TrafficPolicy_PortTrafficPolicy,
			) bool {
				return int32(s.GetPort().GetNumber()) == p.Number && s.GetTls().GetSni() == o.TLS.SNI &&
					slices.Equal(s.GetTls().GetSubjectAltNames(), o.TLS.SubjectAltNames) &&
					s.GetTls().GetMode() != networking.ClientTLSSettings_DISABLE
			}) {
				problems = append(
					problems,
					fmt.Sprintf(
						"entry %s (%s) catches port %d of key %s without its TLS",
						e.Name,
						strings.Join(e.Spec.Addresses, ","),
						p.Number,
						o.Key,
					),
				)
			}
		}
	}
	return problems
}

// within reports whether the address of an entry lies in one of the prefixes.
func within(address string, prefixes []netip.Prefix) bool {
	inner, err := netip.ParsePrefix(address)
	if err != nil {
		addr, err := netip.ParseAddr(address)
		if err != nil {
			return false
		}
		inner = netip.PrefixFrom(addr, addr.BitLen())
	}
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool {
		return p.Bits() <= inner.Bits() &&
			p.Overlaps(inner)
	})
}

func policyOf(r *networkingv1.DestinationRule) *networking.TrafficPolicy {
	if r == nil {
		return nil
	}
	return r.Spec.GetTrafficPolicy()
}
