package cluster

import (
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// clusterIPs finds the Service of an address or inside a prefix. It is fed by informer events and sorts lazily, so a
// lookup is a binary search even in a cluster of 50,000 Services.
type clusterIPs struct {
	mu     sync.Mutex
	names  map[netip.Addr]string // "namespace/name"
	sorted []netip.Addr          // the keys of names, or nil until it is built
}

// set replaces the addresses of a Service.
func (c *clusterIPs) set(old, service *corev1.Service) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old != nil {
		name := old.Namespace + "/" + old.Name
		for _, ip := range addresses(old) {
			if c.names[ip] == name {
				delete(c.names, ip)
			}
		}
	}
	if service != nil {
		for _, ip := range addresses(service) {
			c.names[ip] = service.Namespace + "/" + service.Name
		}
	}
	c.sorted = nil
}

// within returns the Service with the lowest address inside the prefix.
func (c *clusterIPs) within(prefix netip.Prefix) (string, bool) {
	prefix = prefix.Masked()
	c.mu.Lock()
	defer c.mu.Unlock()
	if prefix.IsSingleIP() {
		name, ok := c.names[prefix.Addr()]
		return name, ok
	}
	if c.sorted == nil {
		c.sorted = make([]netip.Addr, 0, len(c.names))
		for ip := range c.names {
			c.sorted = append(c.sorted, ip)
		}
		slices.SortFunc(c.sorted, netip.Addr.Compare)
	}
	i, _ := slices.BinarySearchFunc(c.sorted, prefix.Addr(), netip.Addr.Compare)
	if i == len(c.sorted) || !prefix.Contains(c.sorted[i]) {
		return "", false
	}
	return c.names[c.sorted[i]], true
}

// addresses returns the cluster IPs of a Service. A headless one ("None") has none.
func addresses(service *corev1.Service) []netip.Addr {
	var ips []netip.Addr
	for _, text := range service.Spec.ClusterIPs {
		if ip, err := netip.ParseAddr(text); err == nil {
			ips = append(ips, ip.Unmap())
		}
	}
	return ips
}
