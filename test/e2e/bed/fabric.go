package bed

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// fabric is an isolated network: a bridge in a network namespace, and a namespace for every host. This process has one
// device in it, where istiod and the DNS server listen. The default route of a host is an unassigned address. Thus
// iptables can capture a connection to a VIP, and a connection that is not captured fails.
type fabric struct {
	bed *Bed
	subnet
	// loopback is the address of listeners that hosts of the fabric must not reach.
	loopback netip.Addr

	mu  sync.Mutex
	six *subnet // nil until a host has IPv6
	n   int     // hosts
}

// subnet is the range of the fabric's addresses of one family.
type subnet struct {
	prefix     netip.Prefix
	gateway    netip.Addr // of this process
	unassigned netip.Addr
	next       netip.Addr // of the next host
}

// namespaceName matches the network namespaces of all beds. The number is the id of the process that made them.
var namespaceName = regexp.MustCompile(`^rtls(\d+)-`)

// iproute2 lists namespaces in the first directory. The second has the files that `ip netns exec` mounts over /etc.
const (
	namespacesDir = "/run/netns"
	hostFilesDir  = "/etc/netns"
)

func newFabric(b *Bed) (*fabric, error) {
	if err := removeStaleNamespaces(); err != nil {
		return nil, err
	}
	f := &fabric{bed: b}
	// Of 100.64.0.0/10 (RFC 6598).
	err := f.choose(func(n int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64 + byte(n>>6)&63, byte(n << 2), 0}), 22)
	})
	if err != nil {
		return nil, err
	}
	bytes := f.gateway.As4()
	f.loopback = netip.AddrFrom4([4]byte{127, bytes[1], bytes[2], 1})
	name, link := f.name("fabric"), f.link()
	b.OnStop(func() error { return removeNamespace(name) })
	for _, args := range []string{
		"netns add " + name,
		"-n " + name + " link set lo up",
		"-n " + name + " link add br0 type bridge",
		"-n " + name + " link set br0 up",
		"link add " + link + " type veth peer name uplink netns " + name,
		"-n " + name + " link set uplink master br0 up",
		"link set " + link + " up",
		fmt.Sprintf("addr add %s/%d dev %s", f.gateway, f.prefix.Bits(), link),
	} {
		if err := f.ip(strings.Fields(args)...); err != nil {
			return nil, err
		}
	}
	return f, f.checkRoute(f.unassigned)
}

// choose takes the first range without a route except the default one. It starts at the range of the process id.
func (s *subnet) choose(candidate func(int) netip.Prefix) error {
	var prefix netip.Prefix
	for i := range 100 {
		prefix = candidate(os.Getpid() + i*257)
		family := familyOf(prefix.Addr())
		out, err := exec.Command("ip", family.flag(), "route", "show", "to", "match", prefix.String()).Output()
		if err != nil {
			return fmt.Errorf("finding a free range of addresses: %w", err)
		}
		taken := false
		for line := range strings.Lines(string(out)) {
			taken = taken || !strings.HasPrefix(line, "default")
		}
		if !taken {
			at := func(last byte) netip.Addr {
				bytes := prefix.Addr().AsSlice()
				bytes[len(bytes)-1] = last
				a, _ := netip.AddrFromSlice(bytes)
				return a
			}
			s.prefix, s.gateway, s.unassigned, s.next = prefix, at(1), at(2), at(10)
			return nil
		}
	}
	return fmt.Errorf("100 ranges of addresses up to %s are in use", prefix)
}

// allocate returns the address of the next host.
func (s *subnet) allocate() (netip.Addr, error) {
	a := s.next
	if !s.prefix.Contains(a.Next()) { // the last one is the broadcast address
		return a, fmt.Errorf("all addresses of %s are in use", s.prefix)
	}
	s.next = a.Next()
	return a, nil
}

// Reserve allocates n consecutive ranges of IPv4 addresses with prefixes of these bits, for hosts that HostAt adds.
func (b *Bed) Reserve(bits, n int) ([]netip.Prefix, error) {
	b.fabric.mu.Lock()
	defer b.fabric.mu.Unlock()
	s := &b.fabric.subnet
	var ranges []netip.Prefix
	for len(ranges) < n {
		a, err := s.allocate()
		if err != nil {
			return nil, err
		}
		if r := netip.PrefixFrom(a, bits); r.Masked() == r {
			ranges = append(ranges, r)
		}
	}
	for last := ranges[n-1]; last.Contains(s.next); {
		if _, err := s.allocate(); err != nil {
			return nil, err
		}
	}
	return ranges, nil
}

// checkRoute returns an error if packets to the address would leave the fabric.
func (f *fabric) checkRoute(a netip.Addr) error {
	out, err := exec.Command(f.bed.components.ip, "route", "get", a.String()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "dev "+f.link()) {
		return fmt.Errorf("packets to %s would not stay in the fabric: ip route get says %q", a, out)
	}
	return nil
}

// link is the name of the device of this process in the fabric.
func (f *fabric) link() string { return fmt.Sprintf("rtls%df", os.Getpid()) }

// name is the name of a network namespace.
func (f *fabric) name(suffix string) string { return fmt.Sprintf("rtls%d-%s", os.Getpid(), suffix) }

func (f *fabric) ip(args ...string) error {
	out, err := exec.Command(f.bed.components.ip, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func removeNamespace(name string) error {
	err := os.RemoveAll(filepath.Join(hostFilesDir, name))
	if _, missing := os.Stat(filepath.Join(namespacesDir, name)); missing == nil {
		if out, failed := exec.Command("ip", "netns", "delete", name).CombinedOutput(); failed != nil {
			err = errors.Join(err, fmt.Errorf("ip netns delete %s: %w: %s", name, failed, out))
		}
	}
	_ = os.Remove(hostFilesDir) // fails if it contains files of another bed or of the machine
	return err
}

// removeStaleNamespaces removes the namespaces of beds whose process does not exist.
func removeStaleNamespaces() error {
	for _, dir := range []string{namespacesDir, hostFilesDir} {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		for _, e := range entries {
			m := namespaceName.FindStringSubmatch(e.Name())
			if m == nil {
				continue
			}
			pid, err := strconv.Atoi(m[1])
			if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				if err := removeNamespace(e.Name()); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
