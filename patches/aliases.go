package patches

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Aliases returns the addresses that the pod's hostAliases already give for the host, in their order.
// Entries that are no addresses are left out; For reports them.
func Aliases(pod *corev1.Pod, host string) []netip.Addr {
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

// aliases appends a hostAliases entry for every VIP that is not there yet. An entry that gives the host another VIP, as
// that of a copied pod does, becomes one of these. Any other address for a pinned host would win or lose at random,
// past the sidecar, so it is a problem.
func (p *patch) aliases(os []origination.Origination, ranges []netip.Prefix) (problems []origination.Problem) {
	var missing []corev1.HostAlias
	for i := range os {
		o := &os[i]
		if !o.Pinned() {
			continue
		}
		if len(o.VIPs) == 0 {
			problems = append(problems, invalid(origination.ReasonInternalError, specPath.Child("hostAliases"), o.Host,
				"no VIP was drawn for this host; this is a bug of redis-tls"))
		}
		have := Aliases(p.pod, o.Host)
		lacking := slices.DeleteFunc(slices.Clone(o.VIPs), func(vip netip.Addr) bool { return slices.Contains(have, vip) })
		more, replaced := p.otherAliases(o, ranges, lacking)
		problems = append(problems, more...)
		for _, vip := range lacking[replaced:] {
			missing = append(missing, corev1.HostAlias{IP: vip.String(), Hostnames: []string{o.Host}})
		}
	}
	appendTo(p, "/spec/hostAliases", len(p.pod.Spec.HostAliases), missing)
	return problems
}

// otherAliases replaces the addresses of hostAliases entries that give the host alone a VIP which is not its own, by
// the lacking ones in turn, and returns a problem for every other entry that gives the host another address.
func (p *patch) otherAliases(o *origination.Origination, ranges []netip.Prefix, lacking []netip.Addr) (problems []origination.Problem, replaced int) {
	for i, alias := range p.pod.Spec.HostAliases {
		j := names(alias, o.Host)
		if j < 0 {
			continue
		}
		addr, err := netip.ParseAddr(alias.IP)
		switch {
		case err == nil && slices.Contains(o.VIPs, addr):
			continue
		case err == nil && len(alias.Hostnames) == 1 && replaced < len(lacking) &&
			slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(addr) }):
			p.ops = append(p.ops, jsonpatch.NewOperation("replace", "/spec/hostAliases/"+strconv.Itoa(i)+"/ip", lacking[replaced].String()))
			replaced++
			continue
		}
		problems = append(problems, invalid(origination.ReasonPodConflict,
			specPath.Child("hostAliases").Index(i).Child("hostnames").Index(j), alias.Hostnames[j],
			fmt.Sprintf("gives %s the address %s, but redis-tls pins this host to an address that only the sidecar knows; remove the name from this entry, "+
				"and where it told the server's address, say it by redis-tls/addresses", o.Host, alias.IP)))
	}
	return problems, replaced
}
