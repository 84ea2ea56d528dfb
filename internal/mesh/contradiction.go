package mesh

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// contradiction returns why the claim cannot stand beside what other workloads claim.
func (s *settlement) contradiction(c *Claim) *origination.Problem {
	if l := s.listings[c.Host]; l != nil {
		if p := l.contradiction(c); p != nil {
			return p
		}
	}
	if p := s.everywhere(c); p != nil {
		return p
	}
	server := serverAddresses(&c.Origination)
	if len(server) == 0 {
		return nil
	}
	for _, host := range slices.Sorted(maps.Keys(s.listings)) {
		if host == c.Host {
			continue
		}
		l := s.listings[host]
		for _, of := range []struct {
			addresses []netip.Prefix
			ports     map[int32]listedPort
			by        []Workload
		}{
			{serverAddresses(&l.lead.Origination), l.ports, l.standing},
			{l.left, l.leftPorts, []Workload{l.lead.Workload}}, // nobody else could follow
		} {
			other := slices.IndexFunc(of.by, func(w Workload) bool { return w != c.Workload })
			address, overlaps := overlap(server, of.addresses)
			port, shared := sharedPort(&c.Origination, of.ports)
			if other >= 0 && overlaps && shared {
				return conflict(&c.Origination, "addresses", formatAddress(address),
					fmt.Sprintf("%s claims it for %s, and %s has the same address and port %d for %s; give both the same host and settings",
						c.Workload, c.Host, of.by[other], port, host))
			}
		}
	}
	return nil
}

// everywhere returns the problem of a claim that is served at 0.0.0.0, by HTTP or as bytes to a CIDR, at a port
// where another workload's is served the other way: of two such listeners Istio keeps one.
func (s *settlement) everywhere(c *Claim) *origination.Problem {
	for _, host := range slices.Sorted(maps.Keys(s.listings)) {
		l := s.listings[host]
		if l.lead.Workload == c.Workload || l.lead.HTTP() == c.HTTP() {
			continue
		}
		for _, port := range servedEverywhere(&c.Origination) {
			if slices.Contains(servedEverywhere(&l.lead.Origination), port) {
				return conflict(&c.Origination, "port", fmt.Sprint(port),
					fmt.Sprintf("%s has it for %s by protocol %s, and %s for %s by %s: a CIDR and HTTP are both served at 0.0.0.0:%d, so give one of them another port",
						c.Workload, c.Host, c.Protocol, l.lead.Workload, host, l.lead.Protocol, port))
			}
		}
	}
	return nil
}

// servedEverywhere returns the ports of a listener at 0.0.0.0 that takes what nobody else's is for.
func servedEverywhere(o *origination.Origination) []int32 {
	var ports []int32
	if _, cidr := firstCIDR(serverAddresses(o)); cidr || o.HTTP() {
		for _, p := range o.Ports {
			ports = append(ports, p.Number)
		}
	}
	return ports
}

// contradiction returns what of the claim another workload's on the same host contradicts.
func (l *listing) contradiction(c *Claim) *origination.Problem {
	if lead := &l.lead; lead.Workload != c.Workload {
		switch {
		case !slices.Equal(lead.Addresses, c.Addresses):
			return conflict(&c.Origination, "addresses", describeAddresses(&c.Origination),
				fmt.Sprintf("%s reaches %s %s, and %s %s; make them equal, or use another host name",
					c.Workload, c.Host, describeAddresses(&c.Origination), lead.Workload, describeAddresses(&lead.Origination)))
		case lead.Protocol != c.Protocol:
			return conflict(&c.Origination, "protocol", c.Protocol,
				fmt.Sprintf("%s has protocol %s for %s, and %s has %s; make them equal", c.Workload, c.Protocol, c.Host, lead.Workload, lead.Protocol))
		case listsServer(&lead.Origination) != listsServer(&c.Origination):
			return conflict(&c.Origination, "target-port", describePorts(c.Ports),
				fmt.Sprintf("one of %s (ports %s) and %s (ports %s) has a target port that differs, so that %s itself must not be led anywhere, and the other has none; make them equal, or use another host name",
					c.Workload, describePorts(c.Ports), lead.Workload, describePorts(lead.Ports), describeAddresses(&c.Origination)))
		}
	}
	for _, p := range allPorts(&c.Origination) {
		if there, ok := l.ports[p.Number]; ok && there.target != p.Target && there.by != c.Workload {
			return conflict(&c.Origination, "target-port", fmt.Sprint(p.Target),
				fmt.Sprintf("%s leads port %d of %s to %d, and %s to %d; make them equal", c.Workload, p.Number, c.Host, p.Target, there.by, there.target))
		}
	}
	return nil
}

func sharedPort(o *origination.Origination, ports map[int32]listedPort) (int32, bool) {
	for _, n := range o.PortNumbers() {
		if _, ok := ports[n]; ok {
			return n, true
		}
	}
	return 0, false
}

func describeAddresses(o *origination.Origination) string {
	if len(o.Addresses) == 0 {
		return "by DNS"
	}
	return "at " + strings.Join(sortedPrefixes(o.Addresses), ",")
}

func describePorts(ports []origination.Port) string {
	var b []string
	for _, p := range ports {
		if p.Number == p.Target {
			b = append(b, fmt.Sprint(p.Number))
		} else {
			b = append(b, fmt.Sprintf("%d→%d", p.Number, p.Target))
		}
	}
	return strings.Join(b, ",")
}

// contestedPins returns for every VIP the hosts of which live pods are pinned to it, with one claim of
// each. More than one is a race of two admissions: the VIP is then listed for none of them.
func contestedPins(claims []Claim) map[netip.Addr]map[string]string {
	hosts := map[netip.Addr]map[string]string{}
	for i := range claims {
		c := &claims[i]
		for _, pin := range c.Pin {
			pin = pin.Unmap()
			if hosts[pin] == nil {
				hosts[pin] = map[string]string{}
			}
			if w, ok := hosts[pin][c.Host]; !ok || c.Workload.String() < w {
				hosts[pin][c.Host] = c.Workload.String()
			}
		}
	}
	return hosts
}

// contestedProblem returns the problem of a claim whose VIP another host's live pods have too.
func contestedProblem(c *Claim, hosts map[netip.Addr]map[string]string) *origination.Problem {
	for _, pin := range c.Pin {
		others := hosts[pin.Unmap()]
		if len(others) < 2 {
			continue
		}
		for _, host := range slices.Sorted(maps.Keys(others)) {
			if host != c.Host {
				return conflict(&c.Origination, "host", c.Host,
					fmt.Sprintf("pod %s of %s was pinned to %s for %s at the same moment as %s for %s; recreate its pods", c.Pod, c.Workload, pin, c.Host, others[host], host))
			}
		}
	}
	return nil
}
