package sidecar

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// checkInterception refuses settings that switch the capture off.
func (p *Pod) checkInterception(f *findings) {
	for _, c := range p.captures {
		if c[mode].value == "NONE" {
			f.bypass(c[mode], "must not be NONE: without interception all traffic bypasses the sidecar; "+
				"use REDIRECT or TPROXY")
		}
		if slices.Contains(split(c[interfaces].value), podInterface) {
			f.bypass(c[interfaces], "must not contain eth0: without the pod's own interface all traffic bypasses the sidecar; "+
				"remove eth0 from the list")
		}
	}
}

// podInterface is the pod's own interface.
const podInterface = "eth0"

// checkInterfaces warns about further interfaces that are excluded. Only the routes of the node tell which addresses
// they reach. A VIP exists nowhere, so traffic to it leaves by the pod's own interface.
func (p *Pod) checkInterfaces(f *findings, o *origination.Origination) {
	if o.Pinned() {
		return
	}
	for _, c := range p.captures {
		if slices.ContainsFunc(split(c[interfaces].value), func(name string) bool { return name != podInterface }) {
			f.warn("%s: %q: traffic of these interfaces bypasses the sidecar. "+
				"If the node routes %s through one of them, it is reached without TLS; remove that interface from the list",
				c[interfaces].at, c[interfaces].text(), o.Host)
		}
	}
}

// checkHeadless warns if the capture is limited to some addresses and the server is a headless Service of the mesh.
// Its addresses are those of its pods, which change.
func (p *Pod) checkHeadless(f *findings, o *origination.Origination) {
	if !o.InMesh() || len(o.ClusterIPs) > 0 {
		return
	}
	for _, c := range p.captures {
		if len(portsOutside(c[includePorts].value, o)) == 0 {
			continue
		}
		if excluded := c[excludeRanges]; len(ranges(excluded.value)) > 0 {
			f.warn("%s: %q: traffic to these addresses bypasses the sidecar. "+
				"If a pod of %s has one of them, it is reached without TLS; exclude no address of its pods",
				excluded.at, excluded.text(), o.Host)
		}
		included := c[includeRanges]
		if set := ranges(included.value); !covered(everywhere[0], set) || !covered(everywhere[1], set) {
			f.warn("%s: %q: only traffic to these addresses goes through the sidecar. "+
				"If a pod of %s has another address, it is reached without TLS; include every address of its pods",
				included.at, included.text(), o.Host)
		}
	}
}

// checkPorts refuses captures that exclude a required port of the origination.
func (p *Pod) checkPorts(f *findings, o *origination.Origination) {
	for _, c := range p.captures {
		excluded := c[excludePorts]
		if excluded.value == "" {
			continue // the usual value
		}
		var out []string
		for _, port := range requiredPorts(o) {
			if listsPort(excluded.value, port) {
				out = append(out, strconv.Itoa(int(port)))
			}
		}
		if len(out) > 0 {
			f.bypass(excluded, "must not exclude port %s of %s: this traffic bypasses the sidecar; "+
				"annotate the pod %s without the port",
				strings.Join(out, ", "), o.Host, excludeOutboundPorts)
		}
	}
}

// checkAddresses refuses captures that exclude one of the prefixes, or do not include it. The rules of istio-iptables
// match in this order: excluded ranges, included ports, included ranges (tools/istio-iptables/pkg/capture/run.go).
func (p *Pod) checkAddresses(f *findings, o *origination.Origination, prefixes []netip.Prefix) {
	if len(prefixes) == 0 {
		return
	}
	for _, c := range p.captures {
		excluded, included := ranges(c[excludeRanges].value), ranges(c[includeRanges].value)
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
			f.bypass(c[excludeRanges], "must not exclude %s of %s: this traffic bypasses the sidecar; "+
				"annotate the pod %s without these addresses",
				strings.Join(out, ", "), o.Host, excludeOutboundRanges)
		}
		if len(missing) == 0 {
			continue
		}
		if ports := portsOutside(c[includePorts].value, o); len(ports) > 0 {
			f.bypass(c[includeRanges], "must include %s of %s: otherwise this traffic bypasses the sidecar; "+
				"annotate the pod %s with these addresses, or %s with port %s",
				strings.Join(missing, ", "), o.Host, includeOutboundRanges, includeOutboundPorts, strings.Join(ports, ", "))
		}
	}
}

// portsOutside returns the required ports of the origination that the list does not include.
func portsOutside(list string, o *origination.Origination) (ports []string) {
	for _, port := range requiredPorts(o) {
		if !listsPort(list, port) {
			ports = append(ports, strconv.Itoa(int(port)))
		}
	}
	return ports
}

// requiredPorts returns the ports that the capture must include, sorted: those with TLS, and the passthrough ports
// that the user named.
func requiredPorts(o *origination.Origination) []int32 {
	ports := make([]int32, 0, len(o.Ports)+len(o.Passthrough))
	for _, p := range o.Ports {
		ports = append(ports, p.Number)
	}
	for _, number := range o.Passthrough {
		if !impliedPort(o, number) {
			ports = append(ports, number)
		}
	}
	slices.Sort(ports)
	return ports
}

// impliedPort reports whether a passthrough port only follows from a target port, or is 443 of protocol http. The user
// cannot remove such a port, and the app may never dial it. If it does, an excluded port of a VIP reaches no server.
//
// An origination does not say which ports the user named, so a named port with one of these numbers is implied too.
func impliedPort(o *origination.Origination, number int32) bool {
	const https = 443
	return o.Pinned() && (o.HTTP() && number == https ||
		slices.ContainsFunc(o.Ports, func(p origination.Port) bool { return p.Target == number && p.Number != number }))
}
