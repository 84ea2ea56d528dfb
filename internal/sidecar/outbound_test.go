package sidecar

import (
	"slices"
	"testing"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Every way around the sidecar, by the annotations that cause it.
func TestBypassByAnnotation(t *testing.T) {
	const exPorts = "metadata.annotations[" + excludeOutboundPorts + "]"
	const exRanges, inRanges = "metadata.annotations[" + excludeOutboundRanges + "]", "metadata.annotations[" + includeOutboundRanges + "]"
	pinned, single, network := one(), one(addressed("10.0.0.3/32")), one(addressed("10.0.0.0/30"))
	both := one(passthrough(26379))
	for name, test := range map[string]struct {
		changes []change
		os      []origination.Origination
		problem string
	}{
		"our port is excluded":                                      {[]change{annotated(excludeOutboundPorts, "6379")}, pinned, `SidecarBypassed: ` + exPorts + `: Invalid value: "6379": excludes port 6379 of redis.example.com from the sidecar`},
		"our port is excluded among others":                         {[]change{annotated(excludeOutboundPorts, "80, 6379 ,443")}, pinned, `SidecarBypassed: ` + exPorts},
		"our port is excluded with leading zeros":                   {[]change{annotated(excludeOutboundPorts, "06379")}, pinned, `SidecarBypassed: ` + exPorts},
		"our passthrough port is excluded":                          {[]change{annotated(excludeOutboundPorts, "26379")}, both, `SidecarBypassed: ` + exPorts + `: Invalid value: "26379": excludes port 26379`},
		"both ports are excluded":                                   {[]change{annotated(excludeOutboundPorts, "26379,6379")}, both, `SidecarBypassed: ` + exPorts + `: Invalid value: "26379,6379": excludes port 6379, 26379`},
		"all ports are excluded":                                    {[]change{annotated(excludeOutboundPorts, "*")}, pinned, `SidecarBypassed: ` + exPorts},
		"the server's port is excluded, not ours":                   {[]change{annotated(excludeOutboundPorts, "6380")}, pinned, ""},
		"other ports are excluded":                                  {[]change{annotated(excludeOutboundPorts, "63790,637,,x,6380:6390")}, pinned, ""},
		"exclusion wins over inclusion":                             {[]change{annotated(excludeOutboundPorts, "6379"), annotated(includeOutboundPorts, "6379")}, pinned, `SidecarBypassed: ` + exPorts},
		"the pin's range is excluded":                               {[]change{annotated(excludeOutboundRanges, "240.0.0.0/4")}, pinned, `SidecarBypassed: ` + exRanges + `: Invalid value: "240.0.0.0/4": excludes 240.241.7.31/32 of redis.example.com`},
		"the pin's range is excluded, host bits set":                {[]change{annotated(excludeOutboundRanges, "240.241.7.1/24")}, pinned, `SidecarBypassed: ` + exRanges},
		"another range is excluded":                                 {[]change{annotated(excludeOutboundRanges, "10.0.0.0/8,240.240.0.0/16")}, pinned, ""},
		"our address is excluded":                                   {[]change{annotated(excludeOutboundRanges, "192.168.0.0/16, 10.0.0.3/32")}, single, `SidecarBypassed: ` + exRanges + `: Invalid value: "192.168.0.0/16, 10.0.0.3/32": excludes 10.0.0.3/32 of ip-10-0-0-3`},
		"the Service's address is excluded":                         {[]change{annotated(excludeOutboundRanges, "10.96.0.0/12")}, service("10.96.0.10"), `SidecarBypassed: ` + exRanges + `: Invalid value: "10.96.0.0/12": excludes 10.96.0.10/32 of redis.data.svc.cluster.local`},
		"the included ranges leave the Service's address out":       {[]change{annotated(includeOutboundRanges, "10.0.0.0/16")}, service("10.96.0.10"), `SidecarBypassed: ` + inRanges},
		"another address than the Service's is excluded":            {[]change{annotated(excludeOutboundRanges, "10.96.0.1/32")}, service("10.96.0.10"), ""},
		"a Service's port is excluded":                              {[]change{annotated(excludeOutboundPorts, "6379")}, service("10.96.0.10"), `SidecarBypassed: ` + exPorts},
		"a part of our network is excluded":                         {[]change{annotated(excludeOutboundRanges, "10.0.0.2/32")}, network, `SidecarBypassed: ` + exRanges},
		"a neighbour of our network is excluded":                    {[]change{annotated(excludeOutboundRanges, "10.0.0.4/30")}, network, ""},
		"an exclusion wins over an included port":                   {[]change{annotated(excludeOutboundRanges, "10.0.0.0/8"), annotated(includeOutboundPorts, "6379")}, single, `SidecarBypassed: ` + exRanges},
		"the included ranges leave the pin out":                     {[]change{annotated(includeOutboundRanges, "10.96.0.0/12")}, pinned, `SidecarBypassed: ` + inRanges + `: Invalid value: "10.96.0.0/12": does not include 240.241.7.31/32 of redis.example.com`},
		"nothing is included":                                       {[]change{annotated(includeOutboundRanges, "")}, pinned, `SidecarBypassed: ` + inRanges + `: Invalid value: "": does not include`},
		"everything is included":                                    {[]change{annotated(includeOutboundRanges, "*")}, pinned, ""},
		"the included ranges hold the pin":                          {[]change{annotated(includeOutboundRanges, "10.96.0.0/12,240.241.0.0/16")}, pinned, ""},
		"our port is included whatever the address":                 {[]change{annotated(includeOutboundRanges, ""), annotated(includeOutboundPorts, "6379")}, pinned, ""},
		"only one of two ports is included":                         {[]change{annotated(includeOutboundRanges, ""), annotated(includeOutboundPorts, "6379")}, both, `SidecarBypassed: ` + inRanges + `: Invalid value: "": does not include 240.241.7.31/32 of redis.example.com, so this traffic would go around the sidecar; give the pod an annotation traffic.sidecar.istio.io/includeOutboundIPRanges with it, or traffic.sidecar.istio.io/includeOutboundPorts with port 26379`},
		"a part of our network is included":                         {[]change{annotated(includeOutboundRanges, "10.0.0.0/31")}, network, `SidecarBypassed: ` + inRanges},
		"our network is included in two halves":                     {[]change{annotated(includeOutboundRanges, "10.0.0.2/31,10.0.0.0/31")}, network, ""},
		"our network is included but for one":                       {[]change{annotated(includeOutboundRanges, "10.0.0.2/31,10.0.0.1/32")}, network, `SidecarBypassed: ` + inRanges},
		"no interception":                                           {[]change{annotated(interceptionMode, "NONE")}, pinned, `SidecarBypassed: metadata.annotations[sidecar.istio.io/interceptionMode]: Invalid value: "NONE"`},
		"interception by TPROXY":                                    {[]change{annotated(interceptionMode, "TPROXY")}, pinned, ""},
		"the pod's interface is excluded":                           {[]change{annotated(excludeInterfaces, "net1,eth0")}, pinned, `SidecarBypassed: metadata.annotations[traffic.sidecar.istio.io/excludeInterfaces]: Invalid value: "net1,eth0"`},
		"a port is excluded by proxy metadata":                      {[]change{annotated(proxyConfig, "proxyMetadata:\n  ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE: \"6379\"\n")}, pinned, `SidecarBypassed: metadata.annotations[proxy.istio.io/config]: Invalid value: "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE 6379"`},
		"an annotation hides the proxy metadata":                    {[]change{annotated(proxyConfig, `{"proxyMetadata":{"ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE":"6379"}}`), annotated(excludeOutboundPorts, "80")}, pinned, ""},
		"a port is excluded by proxy metadata, protobuf's spelling": {[]change{annotated(proxyConfig, "proxy_metadata: {ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE: \"6379\"}")}, pinned, `SidecarBypassed: metadata.annotations[proxy.istio.io/config]`},
		"proxy metadata that cannot be read":                        {[]change{annotated(proxyConfig, "proxyMetadata: [")}, pinned, ""},
		"an app in a group left out":                                {[]change{annotated(proxyConfig, "proxyMetadata: {ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE: \"5,2000\"}"), groupOf(2000)}, pinned, `SidecarBypassed: metadata.annotations[proxy.istio.io/config]: Invalid value: "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE 5,2000": traffic of group 2000 is not captured`},
		"an app in a group not left out":                            {[]change{annotated(proxyConfig, "proxyMetadata: {ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE: \"5,2000\"}"), groupOf(2001)}, pinned, ""},
		"an app outside of the captured groups":                     {[]change{annotated(proxyConfig, "proxyMetadata: {ISTIO_OUTBOUND_OWNER_GROUPS: \"2000\"}"), groupOf(2001)}, pinned, `SidecarBypassed: metadata.annotations[proxy.istio.io/config]: Invalid value: "ISTIO_OUTBOUND_OWNER_GROUPS 2000": only traffic of these groups is captured`},
		"an app of an unknown group":                                {[]change{annotated(proxyConfig, "proxyMetadata: {ISTIO_OUTBOUND_OWNER_GROUPS: \"2000\"}")}, pinned, `SidecarBypassed: metadata.annotations[proxy.istio.io/config]`},
		"an app of a captured group":                                {[]change{annotated(proxyConfig, "proxyMetadata: {ISTIO_OUTBOUND_OWNER_GROUPS: \"2000\"}"), groupOf(2000)}, pinned, ""},
	} {
		t.Run(name, func(t *testing.T) {
			problems, _ := check(newPod(test.changes...), test.os)
			wantProblems(t, problems, test.problem)
		})
	}
}

// A passthrough port that only follows from another setting may stay out of the capture.
func TestImpliedPassthroughPorts(t *testing.T) {
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
	const excludes = "SidecarBypassed: metadata.annotations[" + excludeOutboundPorts + "]: Invalid value: "
	const includes = "SidecarBypassed: metadata.annotations[" + includeOutboundRanges + "]: Invalid value: "
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
		"a range that has the target port alone is": {
			origin:   passthrough(6380),
			excluded: "6380:6390",
		},
		"the port with TLS is excluded too": {
			origin:   passthrough(6380),
			excluded: "6379,6380",
			problem:  excludes + `"6379,6380": excludes port 6379 of redis.example.com`,
		},
		"all ports are excluded": {
			origin:   passthrough(6380),
			excluded: "*",
			problem:  excludes + `"*": excludes port 6379 of redis.example.com`,
		},
		"a port that the user named is excluded too": {
			origin:   passthrough(6380, 26379),
			excluded: "6380,26379",
			problem:  excludes + `"6380,26379": excludes port 26379 of redis.example.com`,
		},
		"443 of another protocol is one that the user named": {
			origin:   sameTarget,
			excluded: "443",
			problem:  excludes + `"443": excludes port 443 of redis.example.com`,
		},
		"a target that is the port itself has TLS": {
			origin:   sameTarget,
			excluded: "6379",
			problem:  excludes + `"6379": excludes port 6379 of redis.example.com`,
		},
		"the port with TLS is included, the target port is not": {
			origin:   passthrough(6380),
			included: "6379",
		},
		"the target port is included, the port with TLS is not": {
			origin:   passthrough(6380),
			included: "6380",
			problem:  includes + `"": does not include 240.241.7.31/32 of redis.example.com`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			changes := []change{annotated(excludeOutboundPorts, test.excluded)}
			if test.included != "" {
				changes = append(changes, annotated(includeOutboundPorts, test.included), annotated(includeOutboundRanges, ""))
			}
			problems, warnings := check(newPod(changes...), one(test.origin))
			wantProblems(t, problems, test.problem)
			wantBeginnings(t, "warnings", warnings, nil)
		})
	}
}

// The pods behind a headless Service may get any address.
func TestLimitsOfTheCaptureAreWarnedAboutForAHeadlessService(t *testing.T) {
	const excludes = `metadata.annotations[traffic.sidecar.istio.io/excludeOutboundIPRanges]: "10.0.0.0/8" excludes these addresses from the sidecar: where pods of redis.data.svc.cluster.local are among them, they are reached without TLS`
	const includes = `metadata.annotations[traffic.sidecar.istio.io/includeOutboundIPRanges]: "10.0.0.0/8" includes these addresses alone in the sidecar: pods of redis.data.svc.cluster.local that are not among them are reached without TLS`
	for name, test := range map[string]struct {
		changes []change
		os      []origination.Origination
		want    []string
	}{
		"no limit":                        {nil, service(), nil},
		"ranges are excluded":             {[]change{annotated(excludeOutboundRanges, "10.0.0.0/8")}, service(), []string{excludes}},
		"ranges alone are included":       {[]change{annotated(includeOutboundRanges, "10.0.0.0/8")}, service(), []string{includes}},
		"our port is included":            {[]change{annotated(includeOutboundRanges, "10.0.0.0/8"), annotated(includeOutboundPorts, "6379")}, service(), nil},
		"the Service has an address":      {[]change{annotated(excludeOutboundRanges, "10.0.0.0/9")}, service("10.200.0.1"), nil},
		"the host is none of a Service":   {[]change{annotated(excludeOutboundRanges, "10.0.0.0/8")}, one(), nil},
		"everything is included, spelled": {[]change{annotated(includeOutboundRanges, "0.0.0.0/0,::/0")}, service(), nil},
	} {
		t.Run(name, func(t *testing.T) {
			problems, warnings := check(newPod(test.changes...), test.os)
			wantProblems(t, problems)
			if !slices.Equal(test.want, warnings) {
				t.Errorf("warnings %q, want %q", warnings, test.want)
			}
		})
	}
}
