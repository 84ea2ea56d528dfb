package origination

import (
	"net/netip"
	"slices"
)

// Name is a DNS name of the server that the pod's /etc/hosts resolves to VIPs.
type Name struct {
	// Host is ASCII, in lower case, without a trailing dot. It is the full name of a Service, or of a pod of one.
	Host string
	// Aliases are the other names by which the pod can dial the same: the shorter forms of a Service's name.
	Aliases []string
	// VIPs are one of each family, as configured. mesh.VIPs draws them.
	VIPs []netip.Addr
}

// Dialled returns the names that the pod's /etc/hosts must resolve to the VIPs: the host, then its aliases.
func (n *Name) Dialled() []string { return append([]string{n.Host}, n.Aliases...) }

// Names returns the names that the pod resolves to VIPs: the host, then its nodes. An origination that is not pinned
// has none.
func (o *Origination) Names() []Name {
	if !o.Pinned() {
		return nil
	}
	return append([]Name{{Host: o.Host, Aliases: o.Aliases, VIPs: o.VIPs}}, o.Nodes...)
}

// SetVIPs sets the VIPs of each name. The nodes of a copy of the origination are not shared afterwards.
func (o *Origination) SetVIPs(vips func(host string) []netip.Addr) {
	o.VIPs = vips(o.Host)
	o.Nodes = slices.Clone(o.Nodes)
	for i := range o.Nodes {
		o.Nodes[i].VIPs = vips(o.Nodes[i].Host)
	}
}
