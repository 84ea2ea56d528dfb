package mesh

import (
	"cmp"
	"slices"
	"strconv"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// The origination ports are in the dynamic range of IANA, which has no assigned ports.
const (
	firstOriginationPort = 49152
	lastOriginationPort  = 65535
)

// targetPort is an origination port, 0 until one is drawn, and the TLS port of the server that it targets.
type targetPort struct{ target, origination int32 }

// targetPorts are those of one host, sorted by target.
type targetPorts []targetPort

func (t targetPorts) find(target int32) (at int, exists bool) {
	return slices.BinarySearchFunc(t, target, func(p targetPort, target int32) int {
		return cmp.Compare(p.target, target)
	})
}

// port returns the origination port of the target, which must exist.
func (t targetPorts) port(target int32) int32 {
	at, _ := t.find(target)
	return t[at].origination
}

// insert returns the ports with p, instead of another one for its target.
func (t targetPorts) insert(p targetPort) targetPorts {
	at, exists := t.find(p.target)
	if !exists {
		return slices.Insert(t, at, p)
	}
	t[at] = p
	return t
}

// insertSorted returns the sorted numbers with n.
func insertSorted(numbers []int32, n int32) []int32 {
	at, exists := slices.BinarySearch(numbers, n)
	if exists {
		return numbers
	}
	return slices.Insert(numbers, at, n)
}

// portsInUse returns the ports of every entry that is visible in the namespace, and those that its pods dial.
func portsInUse(claims []Claim, snap *Snapshot) map[int32]bool {
	used := map[int32]bool{}
	for _, e := range snap.Entries {
		for _, p := range e.Spec.Ports {
			used[int32(p.GetNumber())] = true
		}
	}
	for i := range claims {
		for _, n := range claims[i].PortNumbers() {
			used[n] = true
		}
	}
	return used
}

// drawPort returns the first free port of the range, starting at the hash. The 16,384 ports are never all in use,
// because the API server accepts no object with so many.
func drawPort(host string, target int32, used map[int32]bool) int32 {
	const size = lastOriginationPort - firstOriginationPort + 1
	start := int32(number(origination.Hash("origination port", host, strconv.Itoa(int(target)))) % size)
	for i := range int32(size) {
		if n := firstOriginationPort + (start+i)%size; !used[n] {
			return n
		}
	}
	return firstOriginationPort + start
}

// originationPort returns the entry's port for the target, or 0.
func originationPort(e *networkingv1.ServiceEntry, target int32) int32 {
	if e == nil {
		return 0
	}
	for _, p := range e.Spec.Ports {
		if n := p.GetNumber(); n >= firstOriginationPort && p.GetTargetPort() == uint32(target) && n != p.GetTargetPort() {
			return int32(n)
		}
	}
	return 0
}
