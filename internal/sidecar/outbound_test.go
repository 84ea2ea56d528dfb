package sidecar

import (
	"testing"

	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// TestBypassByAnnotation covers every annotation that makes traffic bypass the sidecar.
func TestBypassByAnnotation(t *testing.T) {
	c := catalog.Open(t)
	const exPorts = "metadata.annotations[" + excludeOutboundPorts + "]"
	const exRanges, inRanges = "metadata.annotations[" + excludeOutboundRanges +
		"]", "metadata.annotations[" + includeOutboundRanges + "]"
	pinned, single, network := one(), one(addressed("10.0.0.3/32")), one(addressed("10.0.0.0/30"))
	both := one(passthrough(26379))
	for name, test := range map[string]struct {
		changes      []change
		originations []origination.Origination
		problem      string
	}{
		"the port is excluded": {
			changes:      []change{annotated(excludeOutboundPorts, "6379")},
			originations: pinned,
			problem:      `SidecarBypassed: ` + exPorts,
		},
		"the port is excluded with others": {
			changes:      []change{annotated(excludeOutboundPorts, "80, 6379 ,443")},
			originations: pinned,
			problem:      `SidecarBypassed: ` + exPorts,
		},
		"the port is excluded with leading zeros": {
			changes:      []change{annotated(excludeOutboundPorts, "06379")},
			originations: pinned,
			problem:      `SidecarBypassed: ` + exPorts,
		},
		"a passthrough port is excluded": {
			changes:      []change{annotated(excludeOutboundPorts, "26379")},
			originations: both,
			problem:      `SidecarBypassed: ` + exPorts,
		},
		"both ports are excluded": {
			changes:      []change{annotated(excludeOutboundPorts, "26379,6379")},
			originations: both,
			problem:      `SidecarBypassed: ` + exPorts,
		},
		"all ports are excluded": {
			changes:      []change{annotated(excludeOutboundPorts, "*")},
			originations: pinned,
			problem:      `SidecarBypassed: ` + exPorts,
		},
		"the target port is excluded, the port is not": {
			changes:      []change{annotated(excludeOutboundPorts, "6380")},
			originations: pinned,
		},
		"other ports are excluded": {
			changes:      []change{annotated(excludeOutboundPorts, "63790,637,,x,6380:6390")},
			originations: pinned,
		},
		"exclusion takes precedence over inclusion": {
			changes:      []change{annotated(excludeOutboundPorts, "6379"), annotated(includeOutboundPorts, "6379")},
			originations: pinned,
			problem:      `SidecarBypassed: ` + exPorts,
		},
		"the VIP's range is excluded": {
			changes:      []change{annotated(excludeOutboundRanges, "240.0.0.0/4")},
			originations: pinned,
			problem:      `SidecarBypassed: ` + exRanges,
		},
		"the VIP's range is excluded, host bits set": {
			changes:      []change{annotated(excludeOutboundRanges, "240.241.7.1/24")},
			originations: pinned,
			problem:      `SidecarBypassed: ` + exRanges,
		},
		"another range is excluded": {
			changes:      []change{annotated(excludeOutboundRanges, "10.0.0.0/8,240.240.0.0/16")},
			originations: pinned,
		},
		"the server's address is excluded": {
			changes:      []change{annotated(excludeOutboundRanges, "192.168.0.0/16, 10.0.0.3/32")},
			originations: single,
			problem:      `SidecarBypassed: ` + exRanges,
		},
		"the Service's address is excluded": {
			changes:      []change{annotated(excludeOutboundRanges, "10.96.0.0/12")},
			originations: service("10.96.0.10"),
			problem:      `SidecarBypassed: ` + exRanges,
		},
		"the included ranges do not contain the Service's address": {
			changes:      []change{annotated(includeOutboundRanges, "10.0.0.0/16")},
			originations: service("10.96.0.10"),
			problem:      `SidecarBypassed: ` + inRanges,
		},
		"another address than the Service's is excluded": {
			changes:      []change{annotated(excludeOutboundRanges, "10.96.0.1/32")},
			originations: service("10.96.0.10"),
		},
		"a Service's port is excluded": {
			changes:      []change{annotated(excludeOutboundPorts, "6379")},
			originations: service("10.96.0.10"),
			problem:      `SidecarBypassed: ` + exPorts,
		},
		"a part of the server's network is excluded": {
			changes:      []change{annotated(excludeOutboundRanges, "10.0.0.2/32")},
			originations: network,
			problem:      `SidecarBypassed: ` + exRanges,
		},
		"a neighbour of the server's network is excluded": {
			changes:      []change{annotated(excludeOutboundRanges, "10.0.0.4/30")},
			originations: network,
		},
		"an excluded range takes precedence over an included port": {
			changes:      []change{annotated(excludeOutboundRanges, "10.0.0.0/8"), annotated(includeOutboundPorts, "6379")},
			originations: single,
			problem:      `SidecarBypassed: ` + exRanges,
		},
		"the included ranges do not contain the VIP": {
			changes:      []change{annotated(includeOutboundRanges, "10.96.0.0/12")},
			originations: pinned,
			problem:      `SidecarBypassed: ` + inRanges,
		},
		"nothing is included": {
			changes:      []change{annotated(includeOutboundRanges, "")},
			originations: pinned,
			problem:      `SidecarBypassed: ` + inRanges,
		},
		"everything is included": {
			changes:      []change{annotated(includeOutboundRanges, "*")},
			originations: pinned,
		},
		"the included ranges contain the VIP": {
			changes:      []change{annotated(includeOutboundRanges, "10.96.0.0/12,240.241.0.0/16")},
			originations: pinned,
		},
		"the port is included for every address": {
			changes:      []change{annotated(includeOutboundRanges, ""), annotated(includeOutboundPorts, "6379")},
			originations: pinned,
		},
		"only one of two ports is included": {
			changes:      []change{annotated(includeOutboundRanges, ""), annotated(includeOutboundPorts, "6379")},
			originations: both,
			problem:      `SidecarBypassed: ` + inRanges,
		},
		"a part of the server's network is included": {
			changes:      []change{annotated(includeOutboundRanges, "10.0.0.0/31")},
			originations: network,
			problem:      `SidecarBypassed: ` + inRanges,
		},
		"the server's network is included in two halves": {
			changes:      []change{annotated(includeOutboundRanges, "10.0.0.2/31,10.0.0.0/31")},
			originations: network,
		},
		"the server's network is included except one address": {
			changes:      []change{annotated(includeOutboundRanges, "10.0.0.2/31,10.0.0.1/32")},
			originations: network,
			problem:      `SidecarBypassed: ` + inRanges,
		},
		"no interception": {
			changes:      []change{annotated(interceptionMode, "NONE")},
			originations: pinned,
			problem:      `SidecarBypassed: metadata.annotations[sidecar.istio.io/interceptionMode]`,
		},
		"interception by TPROXY": {
			changes:      []change{annotated(interceptionMode, "TPROXY")},
			originations: pinned,
		},
		"the pod's interface is excluded": {
			changes:      []change{annotated(excludeInterfaces, "net1,eth0")},
			originations: pinned,
			problem:      `SidecarBypassed: metadata.annotations[traffic.sidecar.istio.io/excludeInterfaces]`,
		},
		"a port is excluded by proxy metadata": {
			changes:      []change{annotated(proxyConfig, "proxyMetadata:\n  ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE: \"6379\"\n")},
			originations: pinned,
			problem:      `SidecarBypassed: metadata.annotations[proxy.istio.io/config]`,
		},
		"an annotation hides the proxy metadata": {
			changes: []change{
				annotated(proxyConfig, `{"proxyMetadata":{"ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE":"6379"}}`),
				annotated(excludeOutboundPorts, "80"),
			},
			originations: pinned,
		},
		"a port is excluded by proxy metadata, protobuf's spelling": {
			changes:      []change{annotated(proxyConfig, "proxy_metadata: {ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE: \"6379\"}")},
			originations: pinned,
			problem:      `SidecarBypassed: metadata.annotations[proxy.istio.io/config]`,
		},
		"proxy metadata that cannot be read": {
			changes:      []change{annotated(proxyConfig, "proxyMetadata: [")},
			originations: pinned,
		},
		"an app in an excluded group": {
			changes: []change{
				annotated(proxyConfig, "proxyMetadata: {ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE: \"5,2000\"}"),
				groupOf(2000),
			},
			originations: pinned,
			problem:      `SidecarBypassed: metadata.annotations[proxy.istio.io/config]`,
		},
		"an app in a group that is not excluded": {
			changes: []change{
				annotated(proxyConfig, "proxyMetadata: {ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE: \"5,2000\"}"),
				groupOf(2001),
			},
			originations: pinned,
		},
		"an app outside of the captured groups": {
			changes: []change{
				annotated(proxyConfig, "proxyMetadata: {ISTIO_OUTBOUND_OWNER_GROUPS: \"2000\"}"),
				groupOf(2001),
			},
			originations: pinned,
			problem:      `SidecarBypassed: metadata.annotations[proxy.istio.io/config]`,
		},
		"an app of an unknown group": {
			changes:      []change{annotated(proxyConfig, "proxyMetadata: {ISTIO_OUTBOUND_OWNER_GROUPS: \"2000\"}")},
			originations: pinned,
			problem:      `SidecarBypassed: metadata.annotations[proxy.istio.io/config]`,
		},
		"an app of a captured group": {
			changes: []change{
				annotated(proxyConfig, "proxyMetadata: {ISTIO_OUTBOUND_OWNER_GROUPS: \"2000\"}"),
				groupOf(2000),
			},
			originations: pinned,
		},
	} {
		t.Run(name, func(t *testing.T) {
			problems, _ := check(newPod(test.changes...), test.originations)
			c.Add(name, texts(problems)...)
			wantProblems(t, problems, test.problem)
		})
	}
}

// A passthrough port that only follows from another setting may stay out of the capture.
func TestImpliedPassthroughPorts(t *testing.T) {
	c := catalog.Open(t)
	web := func(o *origination.Origination) {
		o.Protocol, o.Ports = origination.ProtocolHTTP, []origination.Port{{Number: 80, Target: 8443}}
		o.Passthrough = []int32{443, 8443}
	}
	sameTarget := func(o *origination.Origination) {
		o.Ports, o.Passthrough = []origination.Port{{Number: 6379, Target: 6379}}, []int32{443}
	}
	secondTarget := func(o *origination.Origination) {
		o.Ports = append(o.Ports, origination.Port{Number: 6479, Target: 6480})
		o.Passthrough = []int32{6380, 6480}
	}
	const excludes = "SidecarBypassed: metadata.annotations[" + excludeOutboundPorts + "]"
	const includes = "SidecarBypassed: metadata.annotations[" + includeOutboundRanges + "]"
	for name, test := range map[string]struct {
		origin            origin
		excluded          string
		included, problem string
	}{
		"the target port is excluded": {
			origin:   passthrough(6380),
			excluded: "6380",
		},
		"each of two target ports is": {
			origin:   secondTarget,
			excluded: "6380,6480",
		},
		"443 of protocol http is": {
			origin:   web,
			excluded: "443",
		},
		"443 of protocol http and the target port are": {
			origin:   web,
			excluded: "443,8443",
		},
		"a range with only the target port is": {
			origin:   passthrough(6380),
			excluded: "6380:6390",
		},
		"the port with TLS is excluded too": {
			origin:   passthrough(6380),
			excluded: "6379,6380",
			problem:  excludes,
		},
		"all ports are excluded": {
			origin:   passthrough(6380),
			excluded: "*",
			problem:  excludes,
		},
		"a port that the user named is excluded too": {
			origin:   passthrough(6380, 26379),
			excluded: "6380,26379",
			problem:  excludes,
		},
		"443 of another protocol is one that the user named": {
			origin:   sameTarget,
			excluded: "443",
			problem:  excludes,
		},
		"a target that is the port itself has TLS": {
			origin:   sameTarget,
			excluded: "6379",
			problem:  excludes,
		},
		"the port with TLS is included, the target port is not": {
			origin:   passthrough(6380),
			included: "6379",
		},
		"the target port is included, the port with TLS is not": {
			origin:   passthrough(6380),
			included: "6380",
			problem:  includes,
		},
	} {
		t.Run(name, func(t *testing.T) {
			changes := []change{annotated(excludeOutboundPorts, test.excluded)}
			if test.included != "" {
				changes = append(changes, annotated(includeOutboundPorts, test.included), annotated(includeOutboundRanges, ""))
			}
			problems, warnings := check(newPod(changes...), one(test.origin))
			c.Add(name, texts(problems)...)
			wantProblems(t, problems, test.problem)
			wantWarnings(t, warnings)
		})
	}
}

// The pods behind a headless Service may get any address.
func TestLimitedCaptureOfAHeadlessServiceIsWarnedAbout(t *testing.T) {
	c := catalog.Open(t)
	const excludes = `metadata.annotations[traffic.sidecar.istio.io/excludeOutboundIPRanges]`
	const includes = `metadata.annotations[traffic.sidecar.istio.io/includeOutboundIPRanges]`
	for name, test := range map[string]struct {
		changes      []change
		originations []origination.Origination
		want         []string
	}{
		"no limit": {originations: service()},
		"ranges are excluded": {
			changes:      []change{annotated(excludeOutboundRanges, "10.0.0.0/8")},
			originations: service(),
			want:         []string{excludes},
		},
		"only some ranges are included": {
			changes:      []change{annotated(includeOutboundRanges, "10.0.0.0/8")},
			originations: service(),
			want:         []string{includes},
		},
		"the port is included": {
			changes:      []change{annotated(includeOutboundRanges, "10.0.0.0/8"), annotated(includeOutboundPorts, "6379")},
			originations: service(),
		},
		"the Service has an address": {
			changes:      []change{annotated(excludeOutboundRanges, "10.0.0.0/9")},
			originations: service("10.200.0.1"),
		},
		"the host is not a Service": {
			changes:      []change{annotated(excludeOutboundRanges, "10.0.0.0/8")},
			originations: one(),
		},
		"everything is included, as two ranges": {
			changes:      []change{annotated(includeOutboundRanges, "0.0.0.0/0,::/0")},
			originations: service(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			problems, warnings := check(newPod(test.changes...), test.originations)
			c.Add(name, warnings...)
			wantProblems(t, problems)
			wantWarnings(t, warnings, test.want...)
		})
	}
}
