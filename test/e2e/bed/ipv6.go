package bed

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// Family is a version of the Internet Protocol.
type Family int

const (
	IPv4 Family = 4
	IPv6 Family = 6
)

func familyOf(a netip.Addr) Family {
	if a.Is6() {
		return IPv6
	}
	return IPv4
}

// flag is ip(8)'s for commands of the family.
func (f Family) flag() string { return fmt.Sprintf("-%d", f) }

// options are for an address of the family: an IPv6 one is used at once, without asking whether
// another host has it.
func (f Family) options() string {
	if f == IPv6 {
		return " nodad"
	}
	return ""
}

// of returns the fabric's range of the family. That of IPv6 is made for the first host that has it: where
// the machine has no IPv6, it is what ErrMissing is about. The caller holds the lock.
func (f *fabric) of(family Family) (*subnet, error) {
	if family == IPv4 {
		return &f.subnet, nil
	}
	if f.six != nil {
		return f.six, nil
	}
	// A container's interfaces often have it switched off.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+f.link()+"/disable_ipv6", []byte("0"), 0); err != nil {
		return nil, fmt.Errorf("%w: IPv6 (%w)", ErrMissing, err)
	}
	six := &subnet{}
	// Unique local addresses (RFC 4193), with "rtls" and the process in their global ID.
	err := six.choose(func(n int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 'r', 't', 'l', 's', byte(n >> 16), byte(n >> 8), byte(n)}), 64)
	})
	if err != nil {
		return nil, err
	}
	if err := f.ip("addr", "add", fmt.Sprintf("%s/%d", six.gateway, six.prefix.Bits()), "dev", f.link(), "nodad"); err != nil {
		return nil, err
	}
	if err := f.contains(six.nobody); err != nil {
		return nil, err
	}
	if err := f.bed.DNS.listen(f.bed, six.gateway); err != nil {
		return nil, fmt.Errorf("starting the DNS server: %w", err)
	}
	f.six = six
	return six, nil
}

// MakeDualStack starts istiod anew as it is installed for a dual-stack mesh, where sidecars reach it by
// IPv6 alone, and returns what puts it back.
func (b *Bed) MakeDualStack(ctx context.Context) (putBack func(context.Context) error, err error) {
	b.fabric.mu.Lock()
	six, err := b.fabric.of(IPv6)
	b.fabric.mu.Unlock()
	if err != nil {
		return nil, err
	}
	env, args := b.Istiod.Env, b.Istiod.Args
	restart := func(ctx context.Context, env, args []string, address netip.Addr) error {
		if err := b.Istiod.Stop(10 * time.Second); err != nil {
			return err
		}
		b.Istiod.Env, b.Istiod.Args = env, args
		b.DNS.Set(istiodService, address)
		if err := b.Istiod.Start(); err != nil {
			return err
		}
		return b.WaitForIstiod(ctx)
	}
	dual := slices.Clone(args)
	for i := range dual {
		dual[i] = strings.Replace(dual[i], "--secureGRPCAddr="+b.fabric.gateway.String()+":", "--secureGRPCAddr=["+six.gateway.String()+"]:", 1)
	}
	putBack = func(ctx context.Context) error { return restart(ctx, env, args, b.fabric.gateway) }
	return putBack, restart(ctx, append(slices.Clone(env), "ISTIO_DUAL_STACK=true"), dual, six.gateway)
}
