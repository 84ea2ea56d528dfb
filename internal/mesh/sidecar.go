package mesh

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// sidecarProblems returns the problem of an unmanaged Sidecar that does not import the managed entry, or a Service in
// the mesh: a pinned host would reach no server, and anything else would be dialled in plaintext. For a restricted pod
// the managed Sidecar applies instead.
func sidecarProblems(o *origination.Origination, podLabels map[string]string, snap *Snapshot) []origination.Problem {
	if restricted(podLabels) {
		return nil
	}
	s := sidecarOf(podLabels, snap)
	if s == nil || len(s.Spec.Egress) == 0 { // without egress Istio imports everything
		return nil
	}
	for _, port := range o.PortNumbers() {
		if fix := importFix(s, o, uint32(port), snap.Namespace); fix != "" {
			return []origination.Problem{unmanagedObject(o, "host", o.Host,
				fmt.Sprintf("Sidecar %s/%s does not import port %d of %s; %s", s.Namespace, s.Name, port, o.Host, fix))}
		}
	}
	return nil
}

// sidecarOf returns the Sidecar that applies to the pod, or nil. Istio applies one (PushContext.initSidecarScopes
// and getSidecarScope):
//
//  1. the namespace's with a selector that matches, the oldest, then by name
//  2. the namespace's without a selector, likewise
//  3. the root namespace's without a selector, likewise
func sidecarOf(podLabels map[string]string, snap *Snapshot) *networkingv1.Sidecar {
	sidecars := slices.Clone(snap.Sidecars)
	slices.SortStableFunc(sidecars, func(a, b *networkingv1.Sidecar) int {
		return cmp.Or(
			-compareBool(a.Spec.WorkloadSelector != nil, b.Spec.WorkloadSelector != nil),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			strings.Compare(a.Name, b.Name))
	})
	for _, s := range sidecars {
		if s.Namespace == snap.Namespace && matches(s.Spec.WorkloadSelector.GetLabels(), podLabels) {
			return s
		}
	}
	for _, s := range sidecars {
		if s.Namespace == snap.RootNamespace && s.Spec.WorkloadSelector == nil {
			return s
		}
	}
	return nil
}

func matches(selector, labels map[string]string) bool {
	for k, v := range selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// importFix returns the fix if the Sidecar does not import the port of the managed entry, or of the Service; "" if it
// does. One listener that serves the port is enough (ListenerBuilder.buildSidecarOutboundListeners):
//
//	port        bind, captureMode   serves, of the services it imports
//	none        none, not NONE      every port, at the service's address
//	this, TCP   none, not NONE      this port, at the service's address; HTTP where that is routed
//	another     any                 no managed entry
//	any         given, or NONE      only its own address, which the app does not dial for a managed entry
func importFix(s *networkingv1.Sidecar, o *origination.Origination, port uint32, namespace string) string {
	line, protocols := egressLine(o, namespace), protocolsAt(o, port)
	fix := ""
	note := func(text string) {
		if fix == "" {
			fix = text
		}
	}
	_, wildcard := firstCIDR(o.DialledAddresses())
	for i, e := range s.Spec.Egress {
		list := fmt.Sprintf("spec.egress[%d]", i)
		if e.Port != nil && e.Port.GetNumber() != port {
			continue
		}
		included, excluded := imports(e.GetHosts(), o, namespace)
		switch {
		case excluded != "":
			note(fmt.Sprintf("remove %q from %s.hosts", excluded, list))
		case !included:
			note(fmt.Sprintf("add this line to %s.hosts: - %q", list, line))
		case e.GetBind() != "" || e.GetCaptureMode() == networkingapi.CaptureMode_NONE:
			note(fmt.Sprintf("%s has bind or captureMode: NONE. Append a listener without port, bind and captureMode "+
				"to spec.egress, with this line in its hosts: - %q", list, line))
		case e.Port != nil && !slices.Contains(protocols, strings.ToUpper(e.Port.GetProtocol())):
			note(fmt.Sprintf("set the protocol of %s.port to %s, not %s", list, protocols[0], e.Port.GetProtocol()))
		default:
			return ""
		}
		if wildcard && e.Port != nil && e.GetCaptureMode() != networkingapi.CaptureMode_NONE {
			return fix // a listener that opens 0.0.0.0 is locked: later ones do not add the CIDR to it
		}
	}
	note(fmt.Sprintf("append a listener without port to spec.egress, with this line in its hosts: - %q", line))
	return fix
}

// protocolsAt returns the protocols that a listener only for the port may have, in capitals; the first is the plain
// one.
func protocolsAt(o *origination.Origination, port uint32) []string {
	switch {
	case !o.HTTP():
		return []string{"TCP", "REDIS"} // Redis is TCP unless Istio's Redis filter is switched on
	case slices.Contains(o.Passthrough, int32(port)):
		return []string{passed, "TLS"}
	default:
		return []string{plain}
	}
}

// hostNamespace returns the namespace of the origination's host: the pod's, or the Service's.
func hostNamespace(o *origination.Origination, namespace string) string {
	if o.InMesh() {
		namespace, _ = o.Service()
	}
	return namespace
}

// meshHosts returns the hosts of the origination's mesh objects.
func meshHosts(o *origination.Origination) []string {
	if o.InMesh() || o.HTTP() {
		return []string{o.Host}
	}
	return privateHosts(o)
}

// egressLine returns the line that the hosts of an egress listener must have for the origination of a pod of the
// namespace. That for private hosts is the same for all keys.
func egressLine(o *origination.Origination, namespace string) string {
	switch home := hostNamespace(o, namespace); {
	case home != namespace:
		return home + "/" + o.Host
	case o.InMesh() || o.HTTP():
		return "./" + o.Host
	default:
		return "./*" + origination.HostSuffix
	}
}

// imports reports whether the hosts of an egress listener include all of the origination's, and which of them
// excludes one. Hosts are namespace/name: the namespace may be "." or "*", "~" before it excludes, the
// name may begin with "*" (convertIstioListenerToWrapper, hostClassification).
func imports(hosts []string, o *origination.Origination, namespace string) (included bool, excluded string) {
	home := hostNamespace(o, namespace)
	for _, host := range meshHosts(o) {
		found := false
		for _, h := range hosts {
			ns, name, ok := strings.Cut(h, "/")
			if !ok || strings.Contains(name, "/") {
				continue
			}
			ns, exclude := strings.CutPrefix(ns, "~")
			switch {
			case ns == ".":
				ns = namespace
			case ns == "*", exclude && ns == "":
				ns = home
			}
			if ns != home || !covers(name, host) {
				continue
			}
			if exclude {
				return false, h
			}
			found = true
		}
		if !found {
			return false, ""
		}
	}
	return true, ""
}

// covers reports whether the name is the host or a wildcard above it (Istio's host.Name.SubsetOf).
func covers(name, host string) bool {
	if suffix, ok := strings.CutPrefix(name, "*"); ok {
		return strings.HasSuffix(host, suffix)
	}
	return name == host
}
