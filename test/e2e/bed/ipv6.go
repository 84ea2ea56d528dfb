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

// flag selects the family in commands of ip(8).
func (f Family) flag() string { return fmt.Sprintf("-%d", f) }

// options are those of ip(8) for an address of the family. With nodad an IPv6 address is usable at once, without
// duplicate address detection.
func (f Family) options() string {
	if f == IPv6 {
		return " nodad"
	}
	return ""
}

// subnetOf returns the fabric's range of the family. It creates that of IPv6 for the first host with IPv6, and returns
// [ErrMissing] if the machine has no IPv6. The caller holds the lock.
func (f *fabric) subnetOf(family Family) (*subnet, error) {
	if family == IPv4 {
		return &f.subnet, nil
	}
	if f.six != nil {
		return f.six, nil
	}
	// In containers it is often disabled.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+f.link()+"/disable_ipv6", []byte("0"), 0); err != nil {
		return nil, fmt.Errorf("%w: IPv6 (%w)", ErrMissing, err)
	}
	six := &subnet{}
	// Unique local addresses (RFC 4193), with "rtls" and the process in their global ID.
	err := six.choose(func(n int) netip.Prefix {
		global := [16]byte{0xfd, 'r', 't', 'l', 's', byte(n >> 16), byte(n >> 8), byte(n)}
		return netip.PrefixFrom(netip.AddrFrom16(global), 64)
	})
	if err != nil {
		return nil, err
	}
	address := fmt.Sprintf("%s/%d", six.gateway, six.prefix.Bits())
	if err := f.ip("addr", "add", address, "dev", f.link(), "nodad"); err != nil {
		return nil, err
	}
	if err := f.checkRoute(six.unassigned); err != nil {
		return nil, err
	}
	if err := f.bed.DNS.listen(f.bed, six.gateway); err != nil {
		return nil, fmt.Errorf("starting the DNS server: %w", err)
	}
	f.six = six
	return six, nil
}

// MakeDualStack restarts istiod as it is installed in a dual-stack mesh, where sidecars reach it by IPv6 only. The
// returned function restarts it as it was.
func (b *Bed) MakeDualStack(ctx context.Context) (restore func(context.Context) error, err error) {
	b.fabric.mu.Lock()
	six, err := b.fabric.subnetOf(IPv6)
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
	const flag = "--secureGRPCAddr="
	for i := range dual {
		dual[i] = strings.Replace(dual[i], flag+b.fabric.gateway.String()+":", flag+"["+six.gateway.String()+"]:", 1)
	}
	restore = func(ctx context.Context) error { return restart(ctx, env, args, b.fabric.gateway) }
	return restore, restart(ctx, append(slices.Clone(env), "ISTIO_DUAL_STACK=true"), dual, six.gateway)
}
