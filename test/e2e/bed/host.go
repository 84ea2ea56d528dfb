package bed

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/redis-tls/redis-tls/test/harness"
)

// Host is a network namespace with an address in the fabric, or one of each family.
type Host struct {
	// Namespace is the name of the network namespace.
	Namespace string
	// Addresses are in the order of the requested families. Address is the first of them.
	Addresses []netip.Addr
	Address   netip.Addr

	bed *Bed
	// nameservers are the lines of its resolv.conf.
	nameservers string
}

// Host adds a host to the network until the bed is stopped. Its families are IPv4 by default.
func (b *Bed) Host(name string, families ...Family) (*Host, error) {
	f := b.fabric
	if len(families) == 0 {
		families = []Family{IPv4}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var addresses []netip.Addr
	for _, family := range families {
		s, err := f.subnetOf(family)
		if err != nil {
			return nil, err
		}
		address, err := s.allocate()
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
		s, err := f.subnetOf(family)
		if err != nil {
			return nil, err
		}
		h.nameservers += fmt.Sprintf("nameserver %s\n", s.gateway)
		commands = append(commands,
			fmt.Sprintf("-n %s addr add %s/%d dev eth0%s", h.Namespace, address, s.prefix.Bits(), family.options()),
			fmt.Sprintf("-n %s %s route add default via %s", h.Namespace, family.flag(), s.unassigned))
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

// writeFile writes a file that commands in the namespace see in /etc.
func (h *Host) writeFile(name, content string) error {
	dir := filepath.Join(hostFilesDir, h.Namespace)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644)
}

// command is a command line that runs in the namespace.
func (h *Host) command(args ...string) []string {
	return append([]string{h.bed.components.ip, "netns", "exec", h.Namespace}, args...)
}

// process is a command that runs in the namespace until the bed is stopped.
func (h *Host) process(name string, env []string, args ...string) *harness.Process {
	command := h.command(args...)
	p := &harness.Process{
		Name: name, Path: command[0], Args: command[1:], Log: h.bed.LogPath(h.Namespace + "-" + name),
		Env: append([]string{
			"HOME=" + h.bed.dir,
			"TMPDIR=" + h.bed.dir,
			"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		}, env...),
	}
	h.bed.OnStop(func() error { p.Kill(); return nil })
	return p
}

func (h *Host) remove() error { return removeNamespace(h.Namespace) }
