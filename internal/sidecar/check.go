package sidecar

import (
	"net/netip"
	"slices"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Check returns what keeps the originations of the pod from working: Istio injects no sidecar, or traffic bypasses it.
// Once Istio's injector has run, the checks include the containers that it added, which show mesh-wide settings. VIPs
// are not drawn yet; see [Pod.CheckVIPs].
//
// A pod for which a sidecar is Unknown gets a warning, not a problem.
func (p *Pod) Check(originations []origination.Origination) (problems []origination.Problem, warnings []string) {
	f := findings{problems: slices.Clone(p.absence)}
	if p.Expected == Unknown {
		f.warn("%s: Istio sidecar injection is not enabled, and a pod without istio-proxy is refused. "+
			"Label namespace %s istio-injection=enabled or istio.io/rev=REVISION, "+
			"or label the pod sidecar.istio.io/inject: \"true\" or istio.io/rev: REVISION",
			namespaceLabelsPath, p.Namespace)
	}
	p.checkInterception(&f)
	for i := range originations {
		o := &originations[i]
		p.checkPorts(&f, o)
		p.checkAddresses(&f, o, singles(o.ClusterIPs))
		p.checkAddresses(&f, o, o.Addresses)
		p.checkInterfaces(&f, o)
		p.checkHeadless(&f, o)
	}
	p.checkHosts(&f, originations)
	p.checkUsers(&f, originations)
	p.checkOrder(&f, originations)
	return f.distinct()
}

// CheckVIPs returns a problem for each capture that does not include a VIP of the origination.
func (p *Pod) CheckVIPs(o *origination.Origination) []origination.Problem {
	var f findings
	var vips []netip.Addr
	for _, name := range o.Names() {
		vips = append(vips, name.VIPs...)
	}
	p.checkAddresses(&f, o, singles(vips))
	return f.problems
}

// checkOrder warns about init containers of the app that run before istio-proxy. If the sidecar is a classic one,
// these are all of them; if it is a native one, those before it in the list (reorderPod, pkg/kube/inject/webhook.go).
func (p *Pod) checkOrder(f *findings, originations []origination.Origination) {
	proxy := -1
	if p.Injected {
		for i := range p.Proxies {
			if p.Proxies[i].init {
				proxy = p.Proxies[i].index
			}
		}
	} else if p.Annotations[istioNativeSidecar] != "false" {
		return // the mesh configuration decides, and admission does not see it
	}
	for i := range p.apps {
		c := &p.apps[i]
		if !c.init || proxy >= 0 && c.index > proxy {
			continue
		}
		for j := range originations {
			effect := "it cannot reach %s"
			if !originations[j].Pinned() {
				effect = "it reaches %s without TLS"
			}
			f.warn("%s: init container %q runs before istio-proxy, so "+effect+"; annotate the pod %s: \"true\"",
				c.Path(), c.Name, originations[j].Host, istioNativeSidecar)
		}
	}
}
