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

// aliases gives every VIP a hostAliases entry with all names of its host that are missing there. An entry that gives
// them another VIP, as in a copied pod, is replaced by one of these. Any other address for a pinned host would be used
// at random, without TLS, so it is a problem.
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
			given, conflicts := p.givenAliases(&originations[i], &name, ranges)
			problems = append(problems, conflicts...)
			for _, vip := range name.VIPs {
				absent := slices.DeleteFunc(name.Dialled(), func(dialled string) bool {
					return slices.ContainsFunc(given[vip], func(alias corev1.HostAlias) bool { return names(alias, dialled) >= 0 })
				})
				if len(absent) > 0 {
					missing = append(missing, corev1.HostAlias{IP: vip.String(), Hostnames: absent})
				}
			}
		}
	}
	appendTo(p, "/spec/hostAliases", len(p.pod.Spec.HostAliases), missing)
	return problems
}

// givenAliases returns the hostAliases entries that give one of the names a VIP of theirs. It replaces another VIP in
// each entry that has only these names, by the VIPs without an entry in their order. Another VIP is an address of the
// ranges, or one that redis-tls/vips records, because a replica with other ranges may have reviewed the pod before. It
// returns a problem for every other entry that gives one of the names another address.
func (p *patch) givenAliases(o *origination.Origination, pinned *origination.Name, ranges []netip.Prefix) (
	given map[netip.Addr][]corev1.HostAlias, problems []origination.Problem,
) {
	given = map[netip.Addr][]corev1.HostAlias{}
	dialled := pinned.Dialled()
	recorded, _ := origination.ParseVIPs(p.pod.Annotations[origination.AnnotationVIPs])
	isVIP := func(addr netip.Addr) bool {
		return slices.Contains(recorded[pinned.Host], addr) ||
			slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(addr) })
	}
	var others []int
	for i, alias := range p.pod.Spec.HostAliases {
		if !slices.ContainsFunc(dialled, func(name string) bool { return names(alias, name) >= 0 }) {
			continue
		}
		if addr, err := netip.ParseAddr(alias.IP); err == nil && slices.Contains(pinned.VIPs, addr) {
			given[addr] = append(given[addr], alias)
		} else {
			others = append(others, i)
		}
	}
	absent := slices.DeleteFunc(slices.Clone(pinned.VIPs), func(vip netip.Addr) bool { return len(given[vip]) > 0 })
	for _, i := range others {
		alias := p.pod.Spec.HostAliases[i]
		addr, err := netip.ParseAddr(alias.IP)
		if err == nil && len(absent) > 0 && onlyNames(alias, dialled) && isVIP(addr) {
			p.ops = append(p.ops,
				jsonpatch.NewOperation("replace", "/spec/hostAliases/"+strconv.Itoa(i)+"/ip", absent[0].String()))
			given[absent[0]] = append(given[absent[0]], alias)
			absent = absent[1:]
			continue
		}
		fix := "remove the name from this entry"
		if pinned.Host == o.Host && !o.HTTP() && !o.InCluster() { // only these may have addresses
			fix += fmt.Sprintf(". If %s is the server's address, write it into %s",
				alias.IP, origination.KeyOf(o.Instances[0], "addresses"))
		}
		for _, name := range dialled {
			if j := names(alias, name); j >= 0 {
				problems = append(problems, invalid(origination.ReasonPodConflict,
					specPath.Child("hostAliases").Index(i).Child("hostnames").Index(j), alias.Hostnames[j],
					fmt.Sprintf("must not have the address %s, because redis-tls resolves %s to a VIP; %s",
						alias.IP, name, fix)))
			}
		}
	}
	return given, problems
}

// onlyNames reports whether a hostAliases entry has no name but these.
func onlyNames(alias corev1.HostAlias, dialled []string) bool {
	only := corev1.HostAlias{Hostnames: dialled}
	return !slices.ContainsFunc(alias.Hostnames, func(name string) bool {
		return names(only, strings.TrimSuffix(name, ".")) < 0
	})
}
