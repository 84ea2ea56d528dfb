package patches

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// singles returns the addresses as prefixes.
func singles(addrs []netip.Addr) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, a := range addrs {
		prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
	return prefixes
}

// noInterception finds what switches the capture off altogether.
func noInterception(cs []capture) (problems []origination.Problem) {
	for _, c := range cs {
		if c.mode.value == "NONE" {
			problems = append(problems, invalid(origination.ReasonBypass, c.mode.at, c.mode.text(),
				"the interception mode NONE captures no traffic, so it would go around the sidecar; use REDIRECT or TPROXY"))
		}
		for _, name := range split(c.interfaces.value) {
			if name == "eth0" {
				problems = append(problems, invalid(origination.ReasonBypass, c.interfaces.at, c.interfaces.text(),
					"excludes the pod's own interface from the sidecar, so all traffic would go around it; remove eth0 from the list"))
			}
		}
	}
	return problems
}

// excludedNetworks warns about interfaces beside the pod's own that are excluded: only the node's
// routes tell whether an address is behind one. A pin is nowhere, so it leaves by the pod's own.
func excludedNetworks(cs []capture, os []origination.Origination) (warnings []string) {
	for _, c := range cs {
		names := slices.DeleteFunc(split(c.interfaces.value), func(name string) bool { return name == "eth0" })
		for _, o := range os {
			if len(names) > 0 && !o.Pinned() {
				warnings = append(warnings, fmt.Sprintf("%s: %q excludes these interfaces from the sidecar: if %s is reached over one of them, it is reached without TLS",
					c.interfaces.at, c.interfaces.text(), o.Host))
			}
		}
	}
	slices.Sort(warnings)
	return slices.Compact(warnings)
}

// unknownAddresses warns where the capture is limited to some addresses, and those of a Service of the mesh
// are its pods', which come and go.
func unknownAddresses(cs []capture, os []origination.Origination) (warnings []string) {
	all := []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	for _, c := range cs {
		for _, o := range os {
			if !o.InMesh() || len(o.ClusterIPs) > 0 || len(portsOutside(c.includePorts.value, o)) == 0 {
				continue
			}
			included := ranges(c.includeRanges.value)
			for _, limit := range []struct {
				setting
				holds bool
				text  string
			}{
				{c.excludeRanges, len(ranges(c.excludeRanges.value)) > 0, "excludes these addresses from the sidecar: where pods of %s are among them, they are reached without TLS"},
				{c.includeRanges, !covered(all[0], included) || !covered(all[1], included), "includes these addresses alone in the sidecar: pods of %s that are not among them are reached without TLS"},
			} {
				if limit.holds {
					warnings = append(warnings, fmt.Sprintf("%s: %q "+limit.text, limit.at, limit.setting.text(), o.Host))
				}
			}
		}
	}
	slices.Sort(warnings)
	return slices.Compact(warnings)
}

// excludedPorts finds ports of the origination that are excluded from the sidecar.
func excludedPorts(cs []capture, o origination.Origination) (problems []origination.Problem) {
	for _, c := range cs {
		var out []string
		for _, port := range o.PortNumbers() {
			if listsPort(c.excludePorts.value, port) {
				out = append(out, strconv.Itoa(int(port)))
			}
		}
		if len(out) > 0 {
			problems = append(problems, invalid(origination.ReasonBypass, c.excludePorts.at, c.excludePorts.text(), fmt.Sprintf(
				"excludes port %s of %s from the sidecar, so this traffic would go around it; give the pod an annotation %s without it", strings.Join(out, ", "), o.Host, excludeOutboundPorts)))
		}
	}
	return problems
}

// uncaptured finds which of the prefixes are excluded from the sidecar, or not included, in the order
// in which the rules of istio-iptables match: excluded ranges, included ports, included ranges
// (tools/istio-iptables/pkg/capture/run.go).
func uncaptured(cs []capture, o origination.Origination, prefixes []netip.Prefix) (problems []origination.Problem) {
	for _, c := range cs {
		excluded, included := ranges(c.excludeRanges.value), ranges(c.includeRanges.value)
		var out, missing []string
		for _, p := range prefixes {
			if slices.ContainsFunc(excluded, p.Overlaps) {
				out = append(out, p.String())
			}
			if !covered(p, included) {
				missing = append(missing, p.String())
			}
		}
		if len(out) > 0 {
			problems = append(problems, invalid(origination.ReasonBypass, c.excludeRanges.at, c.excludeRanges.text(), fmt.Sprintf(
				"excludes %s of %s from the sidecar, so this traffic would go around it; give the pod an annotation %s without these addresses", strings.Join(out, ", "), o.Host, excludeOutboundRanges)))
		}
		if ports := portsOutside(c.includePorts.value, o); len(missing) > 0 && len(ports) > 0 {
			problems = append(problems, invalid(origination.ReasonBypass, c.includeRanges.at, c.includeRanges.text(), fmt.Sprintf(
				"does not include %s of %s, so this traffic would go around the sidecar; give the pod an annotation %s with it, or %s with port %s",
				strings.Join(missing, ", "), o.Host, includeOutboundRanges, includeOutboundPorts, strings.Join(ports, ", "))))
		}
	}
	return problems
}

// portsOutside returns the ports of the origination that the list does not include.
func portsOutside(list string, o origination.Origination) (ports []string) {
	for _, port := range o.PortNumbers() {
		if !listsPort(list, port) {
			ports = append(ports, strconv.Itoa(int(port)))
		}
	}
	return ports
}

// split is how Istio reads its lists (tools/common/config Split), with the spaces that its validation
// of annotations lets pass.
func split(list string) []string {
	var values []string
	for value := range strings.SplitSeq(list, ",") {
		if value = strings.TrimSpace(value); value != "" {
			values = append(values, value)
		}
	}
	return values
}

// listsPort reports whether the list has the port: numbers, ranges as iptables takes them ("6000:6999"),
// or "*", which istio-cni lets pass. What is no port is skipped: Istio refuses the pod for it.
func listsPort(list string, port int32) bool {
	return slices.ContainsFunc(split(list), func(value string) bool {
		if value == "*" {
			return true
		}
		from, to, isRange := strings.Cut(value, ":")
		if !isRange {
			to = from
		}
		low, err1 := strconv.ParseUint(from, 10, 16)
		high, err2 := strconv.ParseUint(to, 10, 16)
		return err1 == nil && err2 == nil && low <= uint64(port) && uint64(port) <= high
	})
}

// ranges reads a list of CIDRs; "*" is every address. What is no CIDR is skipped: Istio refuses the pod
// for it.
func ranges(list string) (prefixes []netip.Prefix) {
	for _, value := range split(list) {
		if value == "*" {
			return []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
		}
		if prefix, err := netip.ParsePrefix(value); err == nil {
			prefixes = append(prefixes, prefix)
		}
	}
	return prefixes
}

// covered reports whether every address of the prefix is in one of the set.
func covered(p netip.Prefix, set []netip.Prefix) bool {
	var touching []netip.Prefix
	for _, s := range set {
		if s.Bits() <= p.Bits() && s.Contains(p.Addr()) {
			return true
		}
		if s.Overlaps(p) {
			touching = append(touching, s)
		}
	}
	if len(touching) == 0 {
		return false
	}
	low, high := halves(p) // the members are narrower than p: the halves may be covered each by its own
	return covered(low, touching) && covered(high, touching)
}

// halves splits a prefix of more than one address.
func halves(p netip.Prefix) (low, high netip.Prefix) {
	bytes := p.Addr().AsSlice()
	bytes[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	upper, _ := netip.AddrFromSlice(bytes)
	return netip.PrefixFrom(p.Addr(), p.Bits()+1), netip.PrefixFrom(upper, p.Bits()+1)
}
