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

	"github.com/redis-tls/redis-tls/test/harness"
)

// fabric is a network of its own: a bridge in a network namespace, and a namespace for every host. This
// process has one end in it, where istiod and the DNS server listen. Nothing leads out: the default
// route of a host is an address that nobody has, so that a connection to a VIP has a route to be
// captured on, and one that is not captured dies.
type fabric struct {
	bed *Bed
	subnet
	// loopback is for what nobody in the fabric may reach.
	loopback netip.Addr

	mu  sync.Mutex
	six *subnet // nil until a host has IPv6
	n   int
}

// subnet is the range of the fabric's addresses of one family.
type subnet struct {
	prefix  netip.Prefix
	gateway netip.Addr // this process's
	nobody  netip.Addr
	next    netip.Addr // the next host's
}

// namespaceName matches the network namespaces of all beds; the number is the process that made them.
var namespaceName = regexp.MustCompile(`^rtls(\d+)-`)

// Namespaces are listed here by iproute2; the other directory has what `ip netns exec` binds over /etc.
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
	return f, f.contains(f.nobody)
}

// choose takes the first range which no route but the default one leads to, from that of the process id on.
func (s *subnet) choose(candidate func(int) netip.Prefix) error {
	var prefix netip.Prefix
	for i := range 100 {
		prefix = candidate(os.Getpid() + i*257)
		out, err := exec.Command("ip", familyOf(prefix.Addr()).flag(), "route", "show", "to", "match", prefix.String()).Output()
		if err != nil {
			return fmt.Errorf("looking for a free range of addresses: %w", err)
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
			s.prefix, s.gateway, s.nobody, s.next = prefix, at(1), at(2), at(10)
			return nil
		}
	}
	return fmt.Errorf("no free range of addresses like %s", prefix)
}

// take returns the address of one more host.
func (s *subnet) take() (netip.Addr, error) {
	a := s.next
	if !s.prefix.Contains(a.Next()) { // the last one is the broadcast address
		return a, fmt.Errorf("all addresses of %s are in use", s.prefix)
	}
	s.next = a.Next()
	return a, nil
}

// Reserve takes the next ranges of IPv4 addresses of that many bits, each after the other, for hosts that HostAt adds.
func (b *Bed) Reserve(bits, n int) ([]netip.Prefix, error) {
	b.fabric.mu.Lock()
	defer b.fabric.mu.Unlock()
	s := &b.fabric.subnet
	var ranges []netip.Prefix
	for len(ranges) < n {
		a, err := s.take()
		if err != nil {
			return nil, err
		}
		if r := netip.PrefixFrom(a, bits); r.Masked() == r {
			ranges = append(ranges, r)
		}
	}
	for last := ranges[n-1]; last.Contains(s.next); {
		if _, err := s.take(); err != nil {
			return nil, err
		}
	}
	return ranges, nil
}

// contains fails where packets to the address would leave the fabric.
func (f *fabric) contains(a netip.Addr) error {
	out, err := exec.Command(f.bed.components.ip, "route", "get", a.String()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "dev "+f.link()) {
		return fmt.Errorf("packets to %s would not stay in the fabric: ip route get says %q", a, out)
	}
	return nil
}

// link is this process's end of the fabric.
func (f *fabric) link() string { return fmt.Sprintf("rtls%df", os.Getpid()) }

func (f *fabric) name(of string) string { return fmt.Sprintf("rtls%d-%s", os.Getpid(), of) }

func (f *fabric) ip(args ...string) error {
	out, err := exec.Command(f.bed.components.ip, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Host is a network namespace with an address in the fabric, or one of each family.
type Host struct {
	// Namespace is the name of the network namespace.
	Namespace string
	// Addresses are in the order of the families that were asked for, and Address is the first.
	Addresses []netip.Addr
	Address   netip.Addr

	bed *Bed
	// nameservers is what its resolv.conf says of DNS.
	nameservers string
}

// Host adds a host to the network, until the bed is stopped. Without families it has IPv4.
func (b *Bed) Host(name string, families ...Family) (*Host, error) {
	f := b.fabric
	if len(families) == 0 {
		families = []Family{IPv4}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var addresses []netip.Addr
	for _, family := range families {
		s, err := f.of(family)
		if err != nil {
			return nil, err
		}
		address, err := s.take()
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, address)
	}
	return f.host(name, addresses)
}

// HostAt adds a host with an address of a reserved range.
func (b *Bed) HostAt(name string, address netip.Addr) (*Host, error) {
	b.fabric.mu.Lock()
	defer b.fabric.mu.Unlock()
	return b.fabric.host(name, []netip.Addr{address})
}

// host adds a host with these addresses. The caller holds the lock.
func (f *fabric) host(name string, addresses []netip.Addr) (*Host, error) {
	b := f.bed
	f.n++
	h := &Host{Namespace: f.name(fmt.Sprintf("%d-%s", f.n, name)), bed: b}
	bridge := f.name("fabric")
	b.OnStop(h.remove)
	commands := []string{
		"netns add " + h.Namespace,
		fmt.Sprintf("-n %s link add h%d type veth peer name eth0 netns %s", bridge, f.n, h.Namespace),
		fmt.Sprintf("-n %s link set h%d master br0 up", bridge, f.n),
		"-n " + h.Namespace + " link set lo up",
		"-n " + h.Namespace + " link set eth0 up",
	}
	h.Addresses = addresses
	for _, address := range addresses {
		family := familyOf(address)
		s, err := f.of(family)
		if err != nil {
			return nil, err
		}
		h.nameservers += fmt.Sprintf("nameserver %s\n", s.gateway)
		commands = append(commands,
			fmt.Sprintf("-n %s addr add %s/%d dev eth0%s", h.Namespace, address, s.prefix.Bits(), family.options()),
			fmt.Sprintf("-n %s %s route add default via %s", h.Namespace, family.flag(), s.nobody))
	}
	h.Address = h.Addresses[0]
	if err := h.writeFile("resolv.conf", h.nameservers); err != nil {
		return nil, err
	}
	for _, args := range commands {
		if err := f.ip(strings.Fields(args)...); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// writeFile writes a file that commands in the namespace find in /etc.
func (h *Host) writeFile(name, content string) error {
	dir := filepath.Join(hostFilesDir, h.Namespace)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644)
}

// command is a command line run in the namespace.
func (h *Host) command(args ...string) []string {
	return append([]string{h.bed.components.ip, "netns", "exec", h.Namespace}, args...)
}

// process is a command that runs in the namespace until the bed is stopped.
func (h *Host) process(name string, env []string, args ...string) *harness.Process {
	command := h.command(args...)
	p := &harness.Process{
		Name: name, Path: command[0], Args: command[1:], Log: h.bed.LogPath(h.Namespace + "-" + name),
		Env: append([]string{"HOME=" + h.bed.dir, "TMPDIR=" + h.bed.dir, "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, env...),
	}
	h.bed.OnStop(func() error { p.Kill(); return nil })
	return p
}

func (h *Host) remove() error { return removeNamespace(h.Namespace) }

func removeNamespace(name string) error {
	err := os.RemoveAll(filepath.Join(hostFilesDir, name))
	if _, missing := os.Stat(filepath.Join(namespacesDir, name)); missing == nil {
		if out, failed := exec.Command("ip", "netns", "delete", name).CombinedOutput(); failed != nil {
			err = errors.Join(err, fmt.Errorf("ip netns delete %s: %w: %s", name, failed, out))
		}
	}
	_ = os.Remove(hostFilesDir) // fails while another bed, or the machine's owner, has something in it
	return err
}

// removeStaleNamespaces removes what beds left whose process is gone.
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
