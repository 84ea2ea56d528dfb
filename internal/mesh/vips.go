package mesh

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// VIPs returns the addresses to which the pod's /etc/hosts must resolve the origination's host: a VIP of each family
// for which the configuration has a range, IPv4 first. It returns nil for an origination that is not pinned. All pods
// of a key get the same VIPs. They are the first of these that exist:
//
//	those that the key's entry lists, even if it is marked for deletion
//	those of the oldest live pod of the key with usable VIPs
//	those of the pod's hostAliases (in a reinvocation), if no other key holds them
//	new ones, drawn by the key's hash, except those that anything in the cluster or the pod's other originations hold
func VIPs(
	o *origination.Origination,
	already []netip.Addr,
	others []origination.Origination,
	snap *Snapshot,
	ranges config.VIP,
) ([]netip.Addr, *origination.Problem) {
	if !o.Pinned() {
		return nil, nil
	}
	if e := snap.entryOf(o); e != nil && !o.HTTP() {
		if vips := vipsOf(e); len(vips) == len(prefixesOf(ranges)) { // a user may have edited it
			return vips, nil
		}
	}
	for n, r := range snap.Live {
		for i := range r.Originations {
			live := &r.Originations[i]
			if live.Key == o.Key && snap.vipProblem(live, r.Pod, ranges) == nil && !sharesVIP(live, others) &&
				!slices.ContainsFunc(snap.Live[:n], func(older Request) bool { return sharesVIP(live, older.Originations) }) {
				return live.VIPs, nil
			}
		}
	}
	taken := func(vip netip.Addr) bool {
		return len(snap.otherHolders(vip, o.Key)) > 0 || snap.heldHere(vip, o.Key) ||
			slices.ContainsFunc(others, func(o origination.Origination) bool { return slices.Contains(o.VIPs, vip) })
	}
	var vips []netip.Addr
	for _, r := range prefixesOf(ranges) {
		at := slices.IndexFunc(already, func(a netip.Addr) bool {
			return usable(r, a.Unmap()) && !taken(a.Unmap())
		})
		if at >= 0 {
			vips = append(vips, already[at].Unmap())
			continue
		}
		vip, ok := draw(o.Key, r, taken)
		if !ok {
			return nil, &origination.Problem{Reason: origination.ReasonConflict, Err: field.Invalid(keyPath(o, "host"), o.Host,
				fmt.Sprintf("cannot have a VIP, because no address of %s is free in this cluster; "+
					"have the administrator widen the range (vip)", r))}
		}
		vips = append(vips, vip)
	}
	return vips, nil
}

// sharesVIP reports whether another key of the others has a VIP of the origination.
func sharesVIP(o *origination.Origination, others []origination.Origination) bool {
	return slices.ContainsFunc(others, func(other origination.Origination) bool {
		return other.Key != o.Key &&
			slices.ContainsFunc(other.VIPs, func(vip netip.Addr) bool { return slices.Contains(o.VIPs, vip) })
	})
}

// prefixesOf returns the ranges that VIPs are drawn from, IPv4 first.
func prefixesOf(ranges config.VIP) []netip.Prefix {
	var prefixes []netip.Prefix
	if ranges.CIDR.IsValid() {
		prefixes = append(prefixes, ranges.CIDR.Masked())
	}
	if ranges.IPv6CIDR != nil {
		prefixes = append(prefixes, ranges.IPv6CIDR.Masked())
	}
	return prefixes
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

// otherHolders returns the holders of the VIP except the key: entries of any namespace, and live pods of other
// namespaces.
func (s *Snapshot) otherHolders(vip netip.Addr, key string) (others []Holder) {
	for _, h := range s.holders(vip) {
		if h.Key == key && key != "" || h.Name == "" && h.Namespace == s.Namespace {
			continue
		}
		others = append(others, h)
	}
	return others
}

// heldHere reports whether a live pod of the snapshot's namespace has the VIP for another key. It reads the snapshot
// and not the index, because the index may already have later pods of the same key.
func (s *Snapshot) heldHere(vip netip.Addr, key string) bool {
	same := false
	for _, r := range s.Live {
		for i := range r.Originations {
			if o := &r.Originations[i]; slices.Contains(o.VIPs, vip) {
				if o.Key != key {
					return true
				}
				same = true
			}
		}
	}
	return !same && slices.Contains(s.Marks.VIPs, vip) // of an unresolved pod
}

// HolderOf returns the holder of the VIPs that an entry lists.
func HolderOf(e *networkingv1.ServiceEntry) Holder {
	h := Holder{Namespace: e.Namespace, Name: e.Name}
	if IsManaged(e) && behindVIP(e) {
		h.Key = origination.Group(hostOf(e))
	}
	return h
}

// holders returns the holders of the cluster, or else of the snapshot.
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

// vipRegister gives live originations their VIPs, in their order of precedence.
type vipRegister struct {
	snap   *Snapshot
	ranges config.VIP
	count  int                   // of the VIPs of a key
	drawn  map[netip.Addr]string // the key of each VIP that has no entry yet
}

// resolve puts the VIPs of the key into the claim: those of its entry, else those of its pods' annotations, which
// nothing else may have. No object of a host with protocol http has VIPs.
func (v *vipRegister) resolve(c *Claim, entries map[string]*networkingv1.ServiceEntry) *origination.Problem {
	if !c.Pinned() || c.HTTP() {
		return nil
	}
	if entry := entries[c.EntryName()]; entry != nil {
		if vips := vipsOf(entry); len(vips) == v.count { // a user may have edited it
			if !slices.Equal(vips, c.VIPs) {
				o := *c.Origination
				o.VIPs, c.Origination = vips, &o
			}
			return nil
		}
	}
	problem := v.snap.vipProblem(c.Origination, c.Pod, v.ranges)
	for _, vip := range c.VIPs {
		if other, drawn := v.drawn[vip]; problem == nil && drawn && other != c.Key {
			problem = conflict(c.Origination, "host", c.Host,
				fmt.Sprintf("pod %s has VIP %s, which a pod of another host drew at the same time; recreate the pods of this host",
					c.Pod, vip))
		}
	}
	if problem == nil {
		for _, vip := range c.VIPs {
			v.drawn[vip] = c.Key
		}
	}
	return problem
}

// resolveFromOtherPods puts the VIPs of another pod of the key into the claim, if those can be served.
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

// vipProblem returns the problem if the VIPs of a pod's annotations cannot be those of its key. An unmanaged entry with
// the name of the key's entry is no problem here: it lists the VIP instead of the managed one, which is reported as
// missing.
func (s *Snapshot) vipProblem(o *origination.Origination, pod string, ranges config.VIP) *origination.Problem {
	refuse := func(format string, args ...any) *origination.Problem {
		return conflict(o, "host", o.Host, "pod "+pod+" "+fmt.Sprintf(format, args...))
	}
	prefixes := prefixesOf(ranges)
	switch {
	case len(o.VIPs) == 0:
		return refuse("has no VIP for this host; recreate the pod")
	case len(o.VIPs) != len(prefixes):
		return refuse("has VIPs %s, but the ranges are %s (vip); recreate the pod", o.VIPs, prefixes)
	}
	for i, vip := range o.VIPs {
		if !usable(prefixes[i], vip) {
			return refuse("has VIP %s, which is not in the range %s (vip); recreate the pod", vip, prefixes[i])
		}
		for _, h := range s.otherHolders(vip, o.Key) {
			switch {
			case h.Name == "", h.Key == "" && h.Namespace == s.Namespace && h.Name == o.EntryName():
			case h.Key == "":
				p := unmanagedObject(o, "host", o.Host, fmt.Sprintf("cannot be used with ServiceEntry %s/%s, "+
					"which has the VIP %s of this host and pod %s; change its address", h.Namespace, h.Name, vip, pod))
				return &p
			default:
				return refuse("has VIP %s, which ServiceEntry %s/%s has too; recreate the pods of this host",
					vip, h.Namespace, h.Name)
			}
		}
	}
	return nil
}

// usable reports whether the address may be a VIP: it must be in the range, but not the first (network) or the last
// (broadcast) address.
func usable(r netip.Prefix, a netip.Addr) bool {
	if !r.Contains(a) || a.Zone() != "" {
		return false
	}
	n := offset(r, a)
	return n >= 1 && n <= usableIn(r)
}

// usableIn returns the number of addresses of the range that may be VIPs, at most 2^62.
func usableIn(r netip.Prefix) uint64 {
	host := r.Addr().BitLen() - r.Bits()
	switch {
	case host < 2:
		return 0
	case host > 62:
		return 1 << 62
	default:
		return 1<<host - 2
	}
}

// offset returns the position of the address in its range, saturated beyond 2^63.
func offset(r netip.Prefix, a netip.Addr) uint64 {
	base, full := r.Masked().Addr().As16(), a.As16()
	high := binary.BigEndian.Uint64(full[:8]) ^ binary.BigEndian.Uint64(base[:8])
	if high != 0 {
		return 1 << 63
	}
	return binary.BigEndian.Uint64(full[8:]) ^ binary.BigEndian.Uint64(base[8:])
}

// draw returns the first address of the range that is not taken, starting at the key's hash.
func draw(key string, r netip.Prefix, taken func(netip.Addr) bool) (netip.Addr, bool) {
	size := usableIn(r)
	if size == 0 {
		return netip.Addr{}, false
	}
	start := number(origination.Hash("vip", key)) % size
	for i := range min(size, mostProbes) {
		a := addressAt(r, 1+(start+i)%size)
		if !taken(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// mostProbes limits a draw: a range with that many taken addresses in a row counts as full.
const mostProbes = 100_000

// addressAt returns the address at the position in the range.
func addressAt(r netip.Prefix, n uint64) netip.Addr {
	bytes := r.Masked().Addr().As16()
	binary.BigEndian.PutUint64(bytes[8:], binary.BigEndian.Uint64(bytes[8:])|n)
	return netip.AddrFrom16(bytes).Unmap()
}

// number returns the first 64 bits of a Hash.
func number(hash string) uint64 {
	bytes, err := base32.StdEncoding.DecodeString(strings.ToUpper(hash))
	if err != nil { // Hash returns only base32
		panic(err)
	}
	return binary.BigEndian.Uint64(bytes)
}
