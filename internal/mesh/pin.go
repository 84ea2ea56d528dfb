package mesh

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Pin returns the addresses that the pod's /etc/hosts must give for the origination's host: a VIP of each
// family that the configuration has a range for, IPv4 first; nil for what cannot be pinned.
//
// All pods of a host are to get the same VIP, so in this order for each family:
//
//	what the pod's hostAliases already give (a reinvocation, a copied pod), when it is a VIP and no other host's
//	what the host's entry lists, marked for deletion or not
//	what live pods of the host are pinned to
//	a new one, drawn by hash of the host, past those that another host of the namespace holds
func Pin(o origination.Origination, already []netip.Addr, claims []Claim, around Surroundings, vip config.VIP) ([]netip.Addr, *origination.Problem) {
	if !o.Pinnable() {
		return nil, nil
	}
	var ranges []netip.Prefix
	if vip.CIDR.IsValid() {
		ranges = append(ranges, vip.CIDR.Masked())
	}
	if vip.IPv6CIDR != nil {
		ranges = append(ranges, vip.IPv6CIDR.Masked())
	}
	given, problem := sortGiven(&o, already, ranges)
	if problem != nil {
		return nil, problem
	}
	held := heldByOthers(&o, ranges, claims, &around)
	pins := make([]netip.Addr, 0, len(ranges))
	for i, r := range ranges {
		if given[i].IsValid() {
			if by, taken := held[given[i]]; taken {
				return nil, podConflict(&o, fmt.Sprintf("spec.hostAliases gives %s for %s, which is the address of %s; leave the entry for %s out",
					given[i], o.Host, by, o.Host))
			}
			pins = append(pins, given[i])
			continue
		}
		pin, ok := known(&o, r, held, claims, &around)
		if !ok {
			pin, ok = draw(o.Host, r, held)
		}
		if !ok {
			return nil, &origination.Problem{Reason: origination.ReasonConflict, Err: field.Invalid(keyPath(&o, "host"), o.Host,
				fmt.Sprintf("no address of the range %s is free in this namespace; the cluster's administrator can widen it (vip)", r))}
		}
		pins = append(pins, pin)
	}
	return pins, nil
}

// sortGiven puts the addresses that hostAliases already give to their ranges. The zero Addr stands for none.
func sortGiven(o *origination.Origination, already []netip.Addr, ranges []netip.Prefix) ([]netip.Addr, *origination.Problem) {
	given := make([]netip.Addr, len(ranges))
	for _, a := range already {
		a = a.Unmap()
		i := slices.IndexFunc(ranges, func(r netip.Prefix) bool { return usable(r, a) })
		switch {
		case i < 0:
			return nil, podConflict(o, fmt.Sprintf("spec.hostAliases gives %s for %s; the pod must resolve it to an address of ours, so leave the entry out", a, o.Host))
		case given[i].IsValid() && given[i] != a:
			return nil, podConflict(o, fmt.Sprintf("spec.hostAliases gives both %s and %s for %s; leave the entries out", given[i], a, o.Host))
		}
		given[i] = a
	}
	return given, nil
}

func podConflict(o *origination.Origination, detail string) *origination.Problem {
	return &origination.Problem{Reason: origination.ReasonPodConflict, Err: field.Invalid(keyPath(o, "host"), o.Host, detail)}
}

// heldByOthers returns the addresses of the ranges that lead to another host in the namespace, and to which.
// A CIDR holds none: Envoy prefers the listener of the one address.
func heldByOthers(o *origination.Origination, ranges []netip.Prefix, claims []Claim, around *Surroundings) map[netip.Addr]string {
	held := map[netip.Addr]string{}
	hold := func(p netip.Prefix, by func() string) {
		if p.IsSingleIP() && slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(p.Addr()) }) {
			held[p.Addr()] = by()
		}
	}
	for i := range claims {
		if c := &claims[i]; c.Host != o.Host {
			for _, p := range dialled(&c.Origination) {
				hold(p, func() string { return c.Host + " (" + c.Workload.String() + ")" })
			}
		}
	}
	for _, e := range around.Entries {
		by := func() string { return "ServiceEntry " + e.Namespace + "/" + e.Name }
		switch {
		case e.Namespace == around.Namespace && Owned(e):
			if hostOf(e) == o.MeshHost() {
				continue
			}
		case !Visible(e, around.Namespace):
			continue
		}
		for _, p := range addressesOf(e) {
			hold(p, by)
		}
		for _, assigned := range e.Status.GetAddresses() { // by Istio's allocator
			if p, ok := parseAddress(assigned.GetValue()); ok {
				hold(p, by)
			}
		}
	}
	return held
}

// known returns the VIP of the range that the host already has.
func known(o *origination.Origination, r netip.Prefix, held map[netip.Addr]string, claims []Claim, around *Surroundings) (netip.Addr, bool) {
	free := func(addrs []netip.Addr) (netip.Addr, bool) {
		slices.SortFunc(addrs, netip.Addr.Compare)
		for _, a := range addrs {
			if _, taken := held[a]; !taken && usable(r, a) {
				return a, true
			}
		}
		return netip.Addr{}, false
	}
	if e := around.entryOf(o.MeshHost()); e != nil {
		var listed []netip.Addr
		for _, p := range addressesOf(e) {
			if p.IsSingleIP() {
				listed = append(listed, p.Addr())
			}
		}
		if a, ok := free(listed); ok {
			return a, true
		}
	}
	var pinned []netip.Addr
	for i := range claims {
		if claims[i].Host == o.Host {
			for _, a := range claims[i].Pin {
				pinned = append(pinned, a.Unmap())
			}
		}
	}
	return free(pinned)
}

// usable reports whether the address is one that a pin may have: of the range, but not its first
// (the network's) nor its last (its broadcast).
func usable(r netip.Prefix, a netip.Addr) bool {
	if !r.Contains(a) || a.Zone() != "" {
		return false
	}
	n := offset(r, a)
	return n >= 1 && n <= usableIn(r)
}

// usableIn returns how many addresses of the range pins may have; of a large IPv6 range as many as
// 2^62 suffice.
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

// draw returns the first free address of the range from the host's hash on.
func draw(host string, r netip.Prefix, held map[netip.Addr]string) (netip.Addr, bool) {
	size := usableIn(r)
	if size == 0 {
		return netip.Addr{}, false
	}
	start := number(origination.Hash("vip", host)) % size
	// One more than what is held suffices to find a free one, if there is any.
	for i := range min(size, uint64(len(held))+1) {
		a := at(r, 1+(start+i)%size)
		if _, taken := held[a]; !taken {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// at returns the address at the position in the range.
func at(r netip.Prefix, n uint64) netip.Addr {
	bytes := r.Masked().Addr().As16()
	binary.BigEndian.PutUint64(bytes[8:], binary.BigEndian.Uint64(bytes[8:])|n)
	return netip.AddrFrom16(bytes).Unmap()
}

// number returns the first 64 bits of a Hash.
func number(hash string) uint64 {
	bytes, err := base32.StdEncoding.DecodeString(strings.ToUpper(hash))
	if err != nil { // Hash returns nothing else
		panic(err)
	}
	return binary.BigEndian.Uint64(bytes)
}
