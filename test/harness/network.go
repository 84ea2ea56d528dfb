package harness

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// The addresses are in 198.18.0.0/15, the range for benchmarks of network devices (RFC 2544). No host and no cluster
// uses it, and an EndpointSlice may have such addresses, unlike loopback ones.
var addressBase = netip.MustParsePrefix("198.18.0.0/15")

const (
	addressesPerProcess = 16
	addressesInRange    = 1 << 17
)

// ErrNoNetworkRights is returned if the user may not create network devices.
var ErrNoNetworkRights = errors.New("making a veth pair needs the right to do so (CAP_NET_ADMIN): " +
	"run as root, or in a user and network namespace of its own: test/harness/own-network.sh COMMAND")

// network allocates addresses of this machine outside the loopback range, because kube-apiserver refuses to call a
// webhook through a Service at a loopback address. They are /32 addresses on one end of an unconnected veth pair, so no
// packet to them leaves the machine.
type network struct {
	link string

	mu   sync.Mutex
	next int
}

// linkName matches the devices of all harnesses. The number is the process that created them.
var linkName = regexp.MustCompile(`^rtls(\d+)x\d+$`)

// newNetwork removes the veth pairs of processes that have ended, and creates one.
func newNetwork() (*network, error) {
	if err := removeStaleLinks(); err != nil {
		return nil, err
	}
	for i := range 100 { // names have at most 15 characters: rtls, a pid of at most 7, x, two digits
		link, peer := fmt.Sprintf("rtls%dx%d", os.Getpid(), i), fmt.Sprintf("rtls%dy%d", os.Getpid(), i)
		if _, err := net.InterfaceByName(link); err == nil {
			continue
		}
		if err := ip("link", "add", link, "type", "veth", "peer", "name", peer); err != nil {
			return nil, err
		}
		n := &network{link: link}
		if err := ip("link", "set", link, "up"); err != nil {
			return nil, errors.Join(err, n.close())
		}
		return n, nil
	}
	return nil, errors.New("making a veth pair: this process already has 100 of them")
}

// address adds an address to the device, and returns it when the kernel routes it to this machine.
func (n *network) address() (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for ; n.next < addressesInRange; n.next++ {
		a := nthAddress(os.Getpid()*addressesPerProcess + n.next)
		if isLocal(a) == nil { // another process has it
			continue
		}
		if err := ip("addr", "add", a.String()+"/32", "dev", n.link); err != nil {
			return netip.Addr{}, err
		}
		if err := isLocal(a); err != nil {
			return netip.Addr{}, err
		}
		n.next++
		return a, nil
	}
	return netip.Addr{}, fmt.Errorf("all addresses of %s are in use", addressBase)
}

// close removes the device, and the addresses with it.
func (n *network) close() error { return ip("link", "delete", n.link) }

func nthAddress(n int) netip.Addr {
	b := addressBase.Addr().As4()
	n %= addressesInRange
	b[1] += byte(n >> 16)
	b[2], b[3] = byte(n>>8), byte(n)
	return netip.AddrFrom4(b)
}

// isLocal returns nil if the kernel would deliver packets for the address to this machine.
func isLocal(a netip.Addr) error {
	out, err := exec.Command("ip", "route", "get", a.String()).CombinedOutput()
	route := strings.TrimSpace(string(out))
	if err != nil || !strings.HasPrefix(route, "local ") {
		return fmt.Errorf("%s is not an address of this machine: ip route get says %q", a, route)
	}
	return nil
}

// removeStaleLinks removes the devices of harnesses whose process has ended, and no others.
func removeStaleLinks() error {
	interfaces, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("listing network devices: %w", err)
	}
	for _, i := range interfaces {
		m := linkName.FindStringSubmatch(i.Name)
		if m == nil || !processGone(m[1]) {
			continue
		}
		if err := ip("link", "delete", i.Name); err != nil {
			if _, gone := net.InterfaceByName(i.Name); gone != nil {
				continue // another harness was quicker
			}
			return err
		}
	}
	return nil
}

// processGone reports whether no process has the id. It is false if another program has the id: it is better to leave a
// device than to remove one in use.
func processGone(pid string) bool {
	n, err := strconv.Atoi(pid)
	return err == nil && errors.Is(syscall.Kill(n, 0), syscall.ESRCH)
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("the command ip is missing: install iproute2: %w", err)
	case err != nil && strings.Contains(string(out), "Operation not permitted"):
		return ErrNoNetworkRights
	case err != nil:
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
