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

// Aliases returns the addresses that the pod's hostAliases already give for the host, in their order. It skips entries
// that are not addresses; [For] reports them.
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

// names returns the index of the host among the names of a hostAliases entry, or -1. A resolver ignores case and a
// trailing dot.
func names(alias corev1.HostAlias, host string) int {
	return slices.IndexFunc(alias.Hostnames, func(name string) bool {
		return strings.EqualFold(strings.TrimSuffix(name, "."), host)
	})
}

// aliases appends a hostAliases entry for every VIP that is missing. An entry that gives the host another VIP, as in a
// copied pod, is replaced by one of these. Any other address for a pinned host would be used at random, without TLS, so
// it is a problem.
func (p *patch) aliases(
	originations []origination.Origination,
	ranges []netip.Prefix,
) (problems []origination.Problem) {
	var missing []corev1.HostAlias
	for i := range originations {
		for _, name := range originations[i].Names() {
			if len(name.VIPs) == 0 {
				problems = append(problems, invalid(origination.ReasonInternalError, specPath.Child("hostAliases"), name.Host,
					"must have a VIP, but none was drawn; report this bug of redis-tls"))
			}
			have := Aliases(p.pod, name.Host)
			absent := slices.DeleteFunc(slices.Clone(name.VIPs), func(vip netip.Addr) bool { return slices.Contains(have, vip) })
			conflicts, replaced := p.otherAliases(&originations[i], name, ranges, absent)
			problems = append(problems, conflicts...)
			for _, vip := range absent[replaced:] {
				missing = append(missing, corev1.HostAlias{IP: vip.String(), Hostnames: []string{name.Host}})
			}
		}
	}
	appendTo(p, "/spec/hostAliases", len(p.pod.Spec.HostAliases), missing)
	return problems
}

// otherAliases replaces another VIP in each hostAliases entry that names only the host, by the absent ones in their
// order. It returns a problem for every other entry that gives the host another address.
func (p *patch) otherAliases(
	o *origination.Origination, pinned origination.Name, ranges []netip.Prefix, absent []netip.Addr,
) (problems []origination.Problem, replaced int) {
	for i, alias := range p.pod.Spec.HostAliases {
		j := names(alias, pinned.Host)
		if j < 0 {
			continue
		}
		addr, err := netip.ParseAddr(alias.IP)
		switch {
		case err == nil && slices.Contains(pinned.VIPs, addr):
			continue
		case err == nil && len(alias.Hostnames) == 1 && replaced < len(absent) &&
			slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(addr) }):
			p.ops = append(
				p.ops,
				jsonpatch.NewOperation("replace", "/spec/hostAliases/"+strconv.Itoa(i)+"/ip", absent[replaced].String()),
			)
			replaced++
			continue
		}
		fix := "remove the name from this entry"
		if pinned.Host == o.Host && !o.HTTP() { // only these may have addresses
			fix += fmt.Sprintf(". If %s is the server's address, write it into %s",
				alias.IP, origination.KeyOf(o.Instances[0], "addresses"))
		}
		problems = append(problems, invalid(origination.ReasonPodConflict,
			specPath.Child("hostAliases").Index(i).Child("hostnames").Index(j), alias.Hostnames[j],
			fmt.Sprintf("must not have the address %s, because redis-tls resolves %s to a VIP; %s",
				alias.IP, pinned.Host, fix)))
	}
	return problems, replaced
}
