package adopt

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
)

// dialledPort is a port that the app dials in plaintext, and the policy of its TLS.
type dialledPort struct {
	number, target uint32
	protocol       string // of redis-tls
	policy         policy
}

// portsOf returns the ports of an entry at which the rule originates TLS, and the numbers of its other ports. The
// redirects are those of VirtualServices.
func portsOf(e *networkingv1.ServiceEntry, rule *networkingv1.DestinationRule, redirects map[uint32]uint32) (
	ports []dialledPort, plain []uint32, reason string,
) {
	for _, p := range e.Spec.Ports {
		serving := p
		if to, redirected := redirects[p.Number]; redirected {
			i := slices.IndexFunc(e.Spec.Ports, func(q *networkingapi.ServicePort) bool { return q.Number == to })
			if i < 0 {
				return nil, nil, fmt.Sprintf("a VirtualService routes port %d to port %d, which the entry does not have",
					p.Number, to)
			}
			serving = e.Spec.Ports[i]
		} else if isRedirected(redirects, p.Number) {
			continue // only the mesh dials it
		}
		effective := policyAt(rule, serving.Number)
		if !originates(effective.tls) {
			plain = append(plain, p.Number)
			continue
		}
		protocol, own := protocolOf(p.Protocol)
		if own {
			if len(e.Spec.Ports) > 1 { // of the app's own TLS, which redis-tls passes through
				continue
			}
			return nil, nil, fmt.Sprintf("spec.ports: %d: has protocol %s, for apps with TLS of their own; "+
				"the sidecar would originate TLS in TLS", p.Number, p.Protocol)
		}
		target, reason := targetOf(e, serving)
		if reason != "" {
			return nil, nil, reason
		}
		ports = append(ports, dialledPort{p.Number, target, protocol, effective})
	}
	return ports, plain, ""
}

func isRedirected(redirects map[uint32]uint32, port uint32) bool {
	for _, to := range redirects {
		if to == port {
			return true
		}
	}
	return false
}

// protocolOf returns the value of redis-tls/protocol, and whether the protocol is one of apps with TLS of their own.
func protocolOf(protocol string) (value string, own bool) {
	switch strings.ToUpper(protocol) {
	case "HTTP", "HTTP2", "GRPC":
		return strings.ToLower(protocol), false
	case "HTTPS", "TLS":
		return "", true
	case "MONGO":
		return "mongo", false
	}
	return "", false
}

// targetOf returns the server's port.
func targetOf(e *networkingv1.ServiceEntry, p *networkingapi.ServicePort) (target uint32, reason string) {
	if target = p.TargetPort; target == 0 {
		target = p.Number
	}
	for i, endpoint := range e.Spec.Endpoints {
		own, found := endpoint.Ports[p.Name]
		switch {
		case !found:
		case i > 0 && own != target:
			return 0, "spec.endpoints: have different ports; redis-tls requires one port for all of them"
		default:
			target = own
		}
	}
	return target, ""
}

// set writes the annotations of ports with one protocol. All have the same target as number, or there is one port.
func (s settings) ports(ports []dialledPort) {
	protocol := ports[0].protocol
	number, target := uint32(6379), ports[0].target
	if protocol == "http" {
		number = 80
	}
	var numbers []string
	for _, p := range ports {
		numbers = append(numbers, strconv.Itoa(int(p.number)))
	}
	s.set("protocol", protocol)
	if len(ports) > 1 || ports[0].number != number {
		s.set("port", strings.Join(numbers, ","))
	}
	if len(ports) == 1 && target != ports[0].number && (protocol != "http" || target != 443) {
		s.set("target-port", strconv.Itoa(int(target)))
	}
}

// byTarget groups ports that one instance of redis-tls can have: those without another target, and each with one.
func byTarget(ports []dialledPort) (groups [][]dialledPort) {
	same := map[string]int{}
	for _, p := range ports {
		key := fmt.Sprint(p.protocol, p.policy.tls, p.policy.pool)
		if i, found := same[key]; found && p.number == p.target {
			groups[i] = append(groups[i], p)
			continue
		}
		if p.number == p.target {
			same[key] = len(groups)
		}
		groups = append(groups, []dialledPort{p})
	}
	return groups
}
