package sidecar

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// For random settings of the capture, by annotations and by istio-init, the checks must find a bypass exactly if
// istio-iptables' rules do not redirect one of the packets that the app may send.
func TestBypassAgreesWithIptables(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 11))
	pick := func(values ...string) string { return values[random.IntN(len(values))] }
	list := func(values ...string) string {
		var picked []string
		for _, v := range values {
			if random.IntN(4) == 0 {
				picked = append(picked, v)
			}
		}
		return strings.Join(picked, ",")
	}
	found := map[bool]int{}
	for range 4000 {
		rules := iptables{
			excludePorts:  list("6379", "6380", "443"),
			includePorts:  list("6379", "6380", "443"),
			excludeRanges: list("10.0.0.4/32", "10.0.0.0/29", "240.241.0.0/16", "fd00::/8", "192.168.0.0/16"),
			includeRanges: pick(
				"*",
				"*",
				"",
				list("10.0.0.0/30", "10.0.0.4/31", "10.0.0.6/31", "10.0.0.0/8", "240.0.0.0/4", "fd00::/64"),
			),
			interfaces:   list("net1"),
			uid:          "1337",
			gid:          "1337",
			onlyGroups:   pick("*", "*", "*", "1000,2000"),
			exceptGroups: list("2000", "3000"),
		}
		user, group := pick("1000", "1000", "1000", "1337"), pick("1000", "1000", "1000", "1337", "2000", "3000")
		o := newOrigination([]origin{
			func(o *origination.Origination) { o.VIPs = append(o.VIPs, netip.MustParseAddr("fd00::1f")) },
			passthrough(443), passthrough(6380),
			addressed("10.0.0.4/32"), addressed("10.0.0.0/29"), addressed("10.0.0.4/32", "240.241.1.1/32"),
		}[random.IntN(6)])

		bypassed := false
		for _, prefix := range append(singles(o.VIPs), o.Addresses...) {
			for addr := prefix.Addr(); prefix.Contains(addr); addr = addr.Next() {
				for _, port := range o.PortNumbers() {
					if port == 6380 {
						continue // implied by the target port, so the capture may leave it out
					}
					bypassed = bypassed || !rules.redirects(packet{addr, port, user, group})
				}
			}
		}
		found[bypassed]++
		for name, pod := range map[string]*corev1.Pod{"annotated": annotatedPod(rules), "injected": injected(rules)} {
			pod.Spec.Containers[0].SecurityContext = runsAs(number(user), number(group))
			problems, _ := check(pod, []origination.Origination{o})
			if (len(problems) > 0) != bypassed {
				t.Fatalf(
					"%s, %+v, user %s, group %s, %+v:\nbypassed %v, problems %q",
					name,
					rules,
					user,
					group,
					o,
					bypassed,
					texts(problems),
				)
			}
		}
	}
	if found[true] < 500 || found[false] < 500 {
		t.Errorf("the cases are lopsided: %v", found)
	}
}

func number(s string) *int64 {
	var n int64
	fmt.Sscan(s, &n)
	return &n
}

// annotatedPod sets the rules by annotations.
func annotatedPod(r iptables) *corev1.Pod {
	return newPod(
		annotated(excludeOutboundPorts, r.excludePorts), annotated(includeOutboundPorts, r.includePorts),
		annotated(excludeOutboundRanges, r.excludeRanges), annotated(includeOutboundRanges, r.includeRanges),
		annotated(excludeInterfaces, r.interfaces),
		annotated(
			proxyConfig,
			fmt.Sprintf(
				`{"proxyMetadata":{"ISTIO_OUTBOUND_OWNER_GROUPS":%q,"ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE":%q}}`,
				r.onlyGroups,
				r.exceptGroups,
			),
		))
}

// injected sets them by istio-init.
func injected(r iptables) *corev1.Pod {
	return newPod(native, func(pod *corev1.Pod) {
		pod.Spec.InitContainers[0].Args = initArgs("-o", r.excludePorts, "-q", r.includePorts, "-x", r.excludeRanges,
			"-i", r.includeRanges, "-c", r.interfaces, "-u", r.uid, "-g", r.gid)
		pod.Spec.InitContainers[0].Env = []corev1.EnvVar{
			{Name: ownerGroups, Value: r.onlyGroups},
			{Name: ownerGroupsExclude, Value: r.exceptGroups},
		}
	})
}

// iptables is the configuration of istio-iptables. Its method redirects is retyped from Istio's source: the chain
// ISTIO_OUTPUT of tools/istio-iptables/pkg/capture/run.go from top to bottom.
type iptables struct {
	excludePorts, includePorts, excludeRanges, includeRanges string
	interfaces, uid, gid, onlyGroups, exceptGroups           string
}

type packet struct {
	to       netip.Addr
	port     int32
	uid, gid string
}

func (c iptables) redirects(p packet) bool {
	has := func(list, value string) bool {
		return slices.Contains(strings.Split(list, ","), value) && value != ""
	}
	within := func(list string) bool {
		return slices.ContainsFunc(strings.Split(list, ","), func(s string) bool {
			prefix, err := netip.ParsePrefix(s)
			return err == nil && prefix.Contains(p.to)
		})
	}
	gid := c.gid
	if gid == "" {
		gid = c.uid
	}
	switch {
	case has(c.interfaces, "eth0"), has(c.excludePorts, fmt.Sprint(p.port)):
		return false
	case has(c.uid, p.uid), has(gid, p.gid):
		return false
	case c.onlyGroups == "*" && has(c.exceptGroups, p.gid), c.onlyGroups != "*" && !has(c.onlyGroups, p.gid):
		return false
	case within(c.excludeRanges):
		return false
	default:
		return has(c.includePorts, fmt.Sprint(p.port)) || c.includeRanges == "*" || within(c.includeRanges)
	}
}
