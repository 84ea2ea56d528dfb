package mesh

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// DrawVIPs sets the VIPs of each name of the origination, the addresses that the pod's /etc/hosts must give for it: one
// of each family that the configuration has a range for, IPv4 first. An origination that is not pinned gets none. All
// pods of a key get the same VIPs, so for each name they are, in this order:
//
//	those that the name's entry lists, marked for deletion or not
//	those that the oldest live pod of the key recorded, of those with VIPs that it can have
//	what the pod's hostAliases already give (a reinvocation), if it is a VIP that nothing else holds
//	new ones, drawn by the hash of key and name, that nothing in the cluster and no other name of the pod holds
//
// With a problem nothing is set.
func DrawVIPs(
	o *origination.Origination, already func(host string) []netip.Addr, others []origination.Origination,
	snap *Snapshot, ranges config.VIP,
) *origination.Problem {
	names := o.Names()
	if len(names) == 0 {
		return nil
	}
	d := draw{o: o, others: others, snap: snap, ranges: ranges, vips: make(map[string][]netip.Addr, len(names))}
	for _, name := range names {
		if problem := d.name(name.Host, already(name.Host)); problem != nil {
			return problem
		}
	}
	o.SetVIPs(func(host string) []netip.Addr { return d.vips[host] })
	return nil
}

// draw gives the names of an origination their VIPs.
type draw struct {
	o      *origination.Origination
	others []origination.Origination // of the pod
	snap   *Snapshot
	ranges config.VIP
	vips   map[string][]netip.Addr // by name
}

func (d *draw) name(host string, already []netip.Addr) *origination.Problem {
	prefixes := prefixesOf(d.ranges)
	if e := d.snap.entryNamed(d.o.EntryNameOf(host)); e != nil && !d.o.HTTP() {
		vips := vipsOf(e) // a user may have edited it
		if len(vips) == len(prefixes) && !d.snap.yields(e, vips) {
			d.vips[host] = vips
			return nil
		}
	}
	private := d.o.PrivateHostOf(host)
	for n, r := range d.snap.Live {
		for i := range r.Originations {
			live := &r.Originations[i]
			if live.Key != d.o.Key {
				continue
			}
			name := nameOf(live, host)
			if d.snap.vipProblem(live, name, r.Pod, d.ranges) == nil && !holdsAny(d.others, name.VIPs, private) &&
				!slices.ContainsFunc(d.snap.Live[:n], func(older Request) bool {
					return holdsAny(
						older.Originations,
						name.VIPs,
						private,
					)
				}) {
				d.vips[host] = name.VIPs
				return nil
			}
		}
	}
	taken := func(vip netip.Addr) bool {
		if len(d.snap.otherHolders(vip, private)) > 0 || d.snap.heldHere(vip, private) ||
			holdsAny(d.others, []netip.Addr{vip}, private) {
			return true
		}
		for other, vips := range d.vips {
			if other != host && slices.Contains(vips, vip) {
				return true
			}
		}
		return false
	}
	for _, r := range prefixes {
		at := slices.IndexFunc(already, func(a netip.Addr) bool { return usable(r, a.Unmap()) && !taken(a.Unmap()) })
		if at >= 0 {
			d.vips[host] = append(d.vips[host], already[at].Unmap())
			continue
		}
		hash := origination.Hash("vip", d.o.Key)
		if host != d.o.Host {
			hash = origination.Hash("vip", d.o.Key, host)
		}
		vip, ok := firstFree(hash, r, taken)
		if !ok {
			return &origination.Problem{
				Reason: origination.ReasonConflict,
				Err: field.Invalid(keyPath(d.o, "host"), host,
					fmt.Sprintf("cannot have a VIP, because no address of %s is free in this cluster; "+
						"have the administrator widen the range (vip)", r)),
			}
		}
		d.vips[host] = append(d.vips[host], vip)
	}
	return nil
}

// nameOf returns the origination's name; without VIPs if it has no such name.
func nameOf(o *origination.Origination, host string) origination.Name {
	for _, name := range o.Names() {
		if name.Host == host {
			return name
		}
	}
	return origination.Name{Host: host}
}

// holdsAny reports whether one of the originations has one of the VIPs for another name than that of the private host.
func holdsAny(originations []origination.Origination, vips []netip.Addr, private string) bool {
	for i := range originations {
		o := &originations[i]
		for _, name := range o.Names() {
			if slices.ContainsFunc(name.VIPs, func(vip netip.Addr) bool { return slices.Contains(vips, vip) }) &&
				o.PrivateHostOf(name.Host) != private {
				return true
			}
		}
	}
	return false
}

// vipsOf returns the VIPs that a managed entry lists.
func vipsOf(e *networkingv1.ServiceEntry) []netip.Addr {
	var vips []netip.Addr
	for _, s := range e.Spec.Addresses {
		if p, ok := parseAddress(s); ok && p.IsSingleIP() {
			vips = append(vips, p.Addr())
		}
	}
	return vips
}

// otherHolders returns what holds the VIP other than the private host: entries of any namespace, and live pods of other
// namespaces.
func (s *Snapshot) otherHolders(vip netip.Addr, private string) (others []Holder) {
	for _, h := range s.holders(vip) {
		if h.Host == private || h.Name == "" && h.Namespace == s.Namespace {
			continue
		}
		others = append(others, h)
	}
	return others
}

// yields reports whether an older managed entry has one of the VIPs of the entry. This takes a controller that does not
// see its own write yet. Istio serves the older entry, so the key of the younger one needs another VIP.
func (s *Snapshot) yields(e *networkingv1.ServiceEntry, vips []netip.Addr) bool {
	mine := HolderOf(e)
	return slices.ContainsFunc(vips, func(vip netip.Addr) bool {
		return slices.ContainsFunc(s.otherHolders(vip, mine.Host), func(h Holder) bool {
			return h.Host != "" && cmp.Or(h.Since.Compare(mine.Since), strings.Compare(h.Host, mine.Host)) < 0
		})
	})
}

// heldHere reports whether a live pod of the snapshot's namespace has the VIP for another name or key. These pods are
// the snapshot's and not the index's, which may already contain later pods of the same key.
func (s *Snapshot) heldHere(vip netip.Addr, private string) bool {
	same := false
	for _, r := range s.Live {
		for i := range r.Originations {
			o := &r.Originations[i]
			for _, name := range o.Names() {
				if slices.Contains(name.VIPs, vip) {
					if o.PrivateHostOf(name.Host) != private {
						return true
					}
					same = true
				}
			}
		}
	}
	return !same && slices.Contains(s.Marks.VIPs, vip) // of an unresolved pod
}

// HolderOf returns the holder of the VIPs that an entry lists.
func HolderOf(e *networkingv1.ServiceEntry) Holder {
	h := Holder{Namespace: e.Namespace, Name: e.Name, Since: e.CreationTimestamp.Time}
	if IsManaged(e) && behindVIP(e) {
		h.Host = hostOf(e)
	}
	return h
}

// holders are those of the cluster, or as far as the snapshot shows.
func (s *Snapshot) holders(vip netip.Addr) (holders []Holder) {
	if s.Holders != nil {
		return s.Holders(vip)
	}
	for _, e := range s.Entries {
		if slices.Contains(vipsOf(e), vip) {
			holders = append(holders, HolderOf(e))
		}
	}
	return holders
}
