package patches

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Pinned returns the addresses that the pod's hostAliases already give for the host, in their order.
// Entries that are no addresses are left out; For reports them.
func Pinned(pod *corev1.Pod, host string) []netip.Addr {
	var addrs []netip.Addr
	for _, alias := range pod.Spec.HostAliases {
		addr, err := netip.ParseAddr(alias.IP)
		if err == nil && names(alias, host) >= 0 && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// names returns the index of the host among the names of a hostAliases entry, or -1. Case and a
// trailing dot make no other name to a resolver.
func names(alias corev1.HostAlias, host string) int {
	return slices.IndexFunc(alias.Hostnames, func(name string) bool {
		return strings.EqualFold(strings.TrimSuffix(name, "."), host)
	})
}

// pins appends a hostAliases entry for every pin that is not there yet. Another address for a pinned
// host would win or lose at random, past the sidecar, so it is a problem.
func (p *patch) pins(os []origination.Origination) (problems []origination.Problem) {
	var missing []corev1.HostAlias
	for i := range os {
		o := &os[i]
		if !o.Pinnable() {
			continue
		}
		if len(o.Pin) == 0 {
			problems = append(problems, invalid(origination.ReasonInternal, specPath.Child("hostAliases"), o.Host,
				"no address was drawn for the pin of this host; this is a bug of redis-tls"))
		}
		problems = append(problems, foreignAliases(p.pod, o)...)
		have := Pinned(p.pod, o.Host)
		for _, addr := range o.Pin {
			if !slices.Contains(have, addr) {
				missing = append(missing, corev1.HostAlias{IP: addr.String(), Hostnames: []string{o.Host}})
			}
		}
	}
	appendTo(p, "/spec/hostAliases", len(p.pod.Spec.HostAliases), missing)
	return problems
}

// foreignAliases returns a problem for every hostAliases entry that gives the host an address which is
// not of its pin.
func foreignAliases(pod *corev1.Pod, o *origination.Origination) (problems []origination.Problem) {
	for i, alias := range pod.Spec.HostAliases {
		j := names(alias, o.Host)
		if j < 0 {
			continue
		}
		if addr, err := netip.ParseAddr(alias.IP); err == nil && slices.Contains(o.Pin, addr) {
			continue
		}
		problems = append(problems, invalid(origination.ReasonPodConflict,
			specPath.Child("hostAliases").Index(i).Child("hostnames").Index(j), alias.Hostnames[j],
			fmt.Sprintf("gives %s the address %s, but redis-tls pins this host to an address that only the sidecar knows; remove the name from this entry, "+
				"and where it told the server's address, say it by redis-tls/addresses", o.Host, alias.IP)))
	}
	return problems
}
