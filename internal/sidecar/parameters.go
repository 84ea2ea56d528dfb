package sidecar

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Istio's annotations about the capture.
const (
	includeOutboundPorts  = "traffic.sidecar.istio.io/includeOutboundPorts"
	excludeOutboundPorts  = "traffic.sidecar.istio.io/excludeOutboundPorts"
	includeOutboundRanges = "traffic.sidecar.istio.io/includeOutboundIPRanges"
	excludeOutboundRanges = "traffic.sidecar.istio.io/excludeOutboundIPRanges"
	includeInboundPorts   = "traffic.sidecar.istio.io/includeInboundPorts"
	excludeInboundPorts   = "traffic.sidecar.istio.io/excludeInboundPorts"
	excludeInterfaces     = "traffic.sidecar.istio.io/excludeInterfaces"
	interceptionMode      = "sidecar.istio.io/interceptionMode"
	proxyConfig           = "proxy.istio.io/config"
	interceptionModeEnv   = "ISTIO_META_INTERCEPTION_MODE"
)

// Variables of istio-iptables that have no flag (tools/istio-iptables/pkg/constants).
const (
	ownerGroups        = "ISTIO_OUTBOUND_OWNER_GROUPS"
	ownerGroupsExclude = "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE"
)

// The parameters of a capture, by which [capture] and table are indexed.
const (
	excludePorts = iota
	includePorts
	excludeRanges
	includeRanges
	excludeInbound // ports
	includeInbound
	interfaces // excluded
	mode
	proxyUsers   // not captured
	proxyGroups  // not captured
	onlyGroups   // the groups that are captured, or "*"
	exceptGroups // not captured; has no effect unless onlyGroups is "*"
	parameters   // the number of parameters
)

// parameterRow describes a parameter of the capture: where it is set, and its default.
type parameterRow struct {
	// annotation is Istio's, empty where there is none.
	annotation string
	// short and long are the flag of istio-iptables (tools/istio-iptables/pkg/cmd/root.go), empty where there is
	// none.
	short, long string
	// variable is the environment variable that istio-iptables reads if the flag is absent (pkg/flag BindEnv).
	variable string
	// flagOnly says that Istio's injection template always writes the flag, so the variable has no effect.
	flagOnly bool
	// unset is Istio's default if neither annotation nor variable is given. The default of an absent flag is empty:
	// without -i nothing is captured ("an empty list will disable all outbound").
	unset string
	// path is that of the annotation.
	path *field.Path
}

// table describes the parameters. Variables and paths are filled in once, because every admission reads them.
var table = func() [parameters]parameterRow {
	rows := [parameters]parameterRow{
		excludePorts:   {short: "-o", long: "--istio-local-outbound-ports-exclude", annotation: excludeOutboundPorts},
		includePorts:   {short: "-q", long: "--istio-outbound-ports", annotation: includeOutboundPorts},
		excludeRanges:  {short: "-x", long: "--istio-service-exclude-cidr", annotation: excludeOutboundRanges},
		includeRanges:  {short: "-i", long: "--istio-service-cidr", annotation: includeOutboundRanges, unset: "*"},
		excludeInbound: {short: "-d", long: "--istio-local-exclude-ports", annotation: excludeInboundPorts},
		includeInbound: {short: "-b", long: "--istio-inbound-ports", annotation: includeInboundPorts, unset: "*"},
		interfaces:     {short: "-c", long: "--istio-exclude-interfaces", annotation: excludeInterfaces},
		mode:           {short: "-m", long: "--istio-inbound-interception-mode", annotation: interceptionMode},
		proxyUsers:     {short: "-u", long: "--proxy-uid"},
		proxyGroups:    {short: "-g", long: "--proxy-gid"},
		onlyGroups:     {variable: ownerGroups, unset: "*"},
		exceptGroups:   {variable: ownerGroupsExclude},
	}
	for _, always := range []int{excludeRanges, includeRanges, mode, proxyUsers} {
		rows[always].flagOnly = true
	}
	for i := range rows {
		r := &rows[i]
		if r.variable == "" {
			r.variable = strings.ToUpper(strings.ReplaceAll(strings.TrimPrefix(r.long, "--"), "-", "_"))
		}
		if r.annotation != "" {
			r.path = annotationsPath.Key(r.annotation)
		}
	}
	return rows
}()

var proxyConfigPath = annotationsPath.Key(proxyConfig)
