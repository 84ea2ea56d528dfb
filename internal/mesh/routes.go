package mesh

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// unmanagedRoutes yields the unmanaged routes that apply to sidecars of the namespace, each once.
func (s *Snapshot) unmanagedRoutes() iter.Seq[*networkingv1.VirtualService] {
	return func(yield func(*networkingv1.VirtualService) bool) {
		for _, v := range s.Routes {
			if !IsManaged(v) && reachesSidecars(v, s.Namespace) && !yield(v) {
				return
			}
		}
		for _, v := range s.SharedRoutes {
			if v.Namespace != s.Namespace && reachesSidecars(v, s.Namespace) && !yield(v) {
				return
			}
		}
	}
}

// reachesSidecars reports whether the route applies to sidecars of the namespace.
func reachesSidecars(v *networkingv1.VirtualService, namespace string) bool {
	return exported(v.Spec.ExportTo, v.Namespace, namespace) &&
		(len(v.Spec.Gateways) == 0 || slices.Contains(v.Spec.Gateways, "mesh"))
}

// bypassedRoutes warns about users' routes for the real name of a host with a VIP, as to an egress gateway. The pod
// dials the VIP, so its connections do not match the route.
func bypassedRoutes(o *origination.Origination, snap *Snapshot) []string {
	if !o.Pinned() || o.HTTP() {
		return nil
	}
	var warnings []string
	for v := range snap.unmanagedRoutes() {
		for _, host := range v.Spec.Hosts {
			if !routesOneOf(strings.ToLower(host), v.Namespace, o) {
				continue
			}
			warnings = append(warnings, fmt.Sprintf("%s: VirtualService %s/%s routes %s, but this pod dials the VIP, so its "+
				"connections bypass that route and any egress gateway in it. To keep the route, remove the annotations of "+
				"this host and originate TLS at the gateway", keyPath(o, "host"), v.Namespace, v.Name, host))
			break
		}
	}
	return warnings
}

// routesOneOf reports whether the host of a route of the namespace covers the origination's host or one of its nodes. A
// host without a dot is a Service of the namespace (Istio's ResolveShortnameToFQDN).
func routesOneOf(host, namespace string, o *origination.Origination) bool {
	return slices.ContainsFunc(o.Names(), func(name origination.Name) bool {
		return covers(host, name.Host) || !strings.Contains(host, ".") && slices.Contains(name.Aliases, host+"."+namespace)
	})
}
