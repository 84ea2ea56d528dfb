package mesh

import (
	"fmt"
	"net/netip"
	"slices"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// vipRegister gives live originations their VIPs, in their order of precedence.
type vipRegister struct {
	snap   *Snapshot
	ranges config.VIP
	count  int                   // of the VIPs of a name
	drawn  map[netip.Addr]string // the private host of each VIP that has no entry yet
}

// resolve puts the VIPs of the key into the claim: for each name those of its entry, else those that its pods recorded,
// which must be VIPs that nothing else has. No object of a host with protocol http has them.
func (v *vipRegister) resolve(c *Claim, entries map[string]*networkingv1.ServiceEntry) *origination.Problem {
	if c.HTTP() {
		return nil
	}
	changed, recorded := false, c.Names()
	for i, name := range recorded {
		if entry := entries[c.EntryNameOf(name.Host)]; entry != nil {
			vips := vipsOf(entry) // a user may have edited it
			if len(vips) == v.count && !v.snap.yields(entry, vips) {
				changed = changed || !slices.Equal(vips, name.VIPs)
				recorded[i].VIPs = vips
				continue
			}
		}
		if problem := v.snap.vipProblem(c.Origination, name, c.Pod, v.ranges); problem != nil {
			return problem
		}
		private := c.PrivateHostOf(name.Host)
		for _, vip := range name.VIPs {
			if other, drawn := v.drawn[vip]; drawn && other != private {
				return conflict(c.Origination, "host", name.Host,
					fmt.Sprintf("pod %s has VIP %s, which a pod of another host drew at the same time; recreate the pods of this host",
						c.Pod, vip))
			}
		}
	}
	for _, name := range recorded {
		for _, vip := range name.VIPs {
			v.drawn[vip] = c.PrivateHostOf(name.Host)
		}
	}
	if changed {
		o := *c.Origination
		o.SetVIPs(func(host string) []netip.Addr {
			return recorded[slices.IndexFunc(recorded, func(name origination.Name) bool { return name.Host == host })].VIPs
		})
		c.Origination = &o
	}
	return nil
}

// resolveFromOtherPods puts the VIPs into the claim that another pod of the key recorded, if those can be served.
func (v *vipRegister) resolveFromOtherPods(c *Claim, problem *origination.Problem) *origination.Problem {
	for i := range v.snap.Live {
		r := &v.snap.Live[i]
		for j := range r.Originations {
			if o := &r.Originations[j]; o.Key == c.Key {
				other := Claim{Origination: o, Pod: r.Pod, Since: r.Since}
				if v.resolve(&other, nil) == nil {
					*c = other
					return nil
				}
			}
		}
	}
	return problem
}

// vipProblem says why the VIPs that a pod recorded cannot be those of the name; nil if they can. An unmanaged entry
// with the name of the managed one lists its VIP instead, which is reported where that one is missing.
func (s *Snapshot) vipProblem(
	o *origination.Origination, name origination.Name, pod string, ranges config.VIP,
) *origination.Problem {
	refuse := func(format string, args ...any) *origination.Problem {
		return conflict(o, "host", name.Host, "pod "+pod+" "+fmt.Sprintf(format, args...))
	}
	prefixes := prefixesOf(ranges)
	switch {
	case len(name.VIPs) == 0:
		return refuse("has no VIP for this host; recreate the pod")
	case len(name.VIPs) != len(prefixes):
		return refuse("has VIPs %s, but the ranges are %s (vip); recreate the pod", name.VIPs, prefixes)
	}
	for i, vip := range name.VIPs {
		if !usable(prefixes[i], vip) {
			return refuse("has VIP %s, which is not in the range %s (vip); recreate the pod", vip, prefixes[i])
		}
		for _, h := range s.otherHolders(vip, o.PrivateHostOf(name.Host)) {
			switch {
			case h.Name == "", h.Host == "" && h.Namespace == s.Namespace && h.Name == o.EntryNameOf(name.Host):
			case h.Host == "":
				p := unmanagedObject(o, "host", name.Host, fmt.Sprintf("cannot be used with ServiceEntry %s/%s, "+
					"which has the VIP %s of this host and pod %s; change its address", h.Namespace, h.Name, vip, pod))
				return &p
			default:
				return refuse(
					"has VIP %s, which ServiceEntry %s/%s has too; recreate the pods of this host",
					vip,
					h.Namespace,
					h.Name,
				)
			}
		}
	}
	return nil
}
