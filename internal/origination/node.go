package origination

import "net/netip"

// Name is a DNS name of the server that the pod's /etc/hosts resolves to VIPs.
type Name struct {
	// Host is ASCII, in lower case, without a trailing dot.
	Host string
	// VIPs are one of each family, as configured. mesh.VIPs draws them.
	VIPs []netip.Addr
}

// Names returns the names that the pod resolves to VIPs: the host, then its nodes. An origination that is not pinned
// has none.
func (o *Origination) Names() []Name {
	if !o.Pinned() {
		return nil
	}
	return append([]Name{{o.Host, o.VIPs}}, o.Nodes...)
}

// SetVIPs sets the VIPs of each name. The nodes of a copy of the origination are not shared afterwards.
func (o *Origination) SetVIPs(vips func(host string) []netip.Addr) {
	o.VIPs = vips(o.Host)
	nodes := make([]Name, 0, len(o.Nodes))
	for _, node := range o.Nodes {
		nodes = append(nodes, Name{node.Host, vips(node.Host)})
	}
	o.Nodes = nodes
}
