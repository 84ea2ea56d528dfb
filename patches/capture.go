package patches

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
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

// setting is one value that steers the capture, and where it stands.
type setting struct {
	at    *field.Path
	key   string // the flag or variable inside at; empty where at says it all
	value string
}

// text is the value as messages show it.
func (s setting) text() string { return strings.TrimPrefix(s.key+" "+s.value, " ") }

// capture is everything that says which traffic the sidecar gets. A pod may have several, and traffic
// must be captured by each: the annotations (istio-cni reads them, and the template makes arguments of
// them) and, once Istio's injector has run, the arguments and variables of istio-init or istio-validation,
// where these run istio-iptables, as Istio's do.
type capture struct {
	excludePorts, includePorts     setting
	excludeRanges, includeRanges   setting
	excludeInbound, includeInbound setting // ports
	interfaces, mode               setting
	uids, gids                     setting // who is not captured
	onlyGroups, exceptGroups       setting // whose traffic alone is captured, or is not
}

// captures returns the captures that the pod shows.
func captures(pod *corev1.Pod) []capture {
	annotated := annotatedCapture(pod)
	cs := []capture{annotated}
	if !hasSidecar(pod) {
		return cs
	}
	for _, c := range containers(pod) {
		if c.init && (c.Name == istioInit || c.Name == istioValidation) && slices.Contains(slices.Concat(c.Command, c.Args), "istio-iptables") {
			cs = append(cs, injectedCapture(c).explainedBy(annotated))
		}
	}
	for _, c := range proxies(pod) {
		for i, env := range c.Env {
			if env.Name == interceptionModeEnv {
				cs = append(cs, capture{
					mode:           setting{c.at.Child("env").Index(i), env.Name, env.Value},
					includeRanges:  setting{value: "*"},
					includeInbound: setting{value: "*"},
				})
			}
		}
	}
	return cs
}

// annotatedCapture reads the annotations. Without one the mesh-wide value holds, which is not visible
// before the injector has run; Istio's own default is taken.
func annotatedCapture(pod *corev1.Pod) capture {
	environment := proxyMetadata(pod.Annotations[proxyConfig])
	read := func(key, variable, otherwise string) setting {
		if value, found := pod.Annotations[key]; found {
			return setting{at: capturePaths[key], value: value}
		}
		if value, found := environment[variable]; found {
			return setting{capturePaths[proxyConfig], variable, value}
		}
		return setting{at: capturePaths[key], value: otherwise}
	}
	return capture{
		excludePorts:   read(excludeOutboundPorts, variableExcludePorts, ""),
		includePorts:   read(includeOutboundPorts, variableIncludePorts, ""),
		excludeRanges:  read(excludeOutboundRanges, "", ""),
		includeRanges:  read(includeOutboundRanges, "", "*"),
		excludeInbound: read(excludeInboundPorts, variableExcludeInbound, ""),
		includeInbound: read(includeInboundPorts, variableIncludeInbound, "*"),
		interfaces:     read(excludeInterfaces, variableInterfaces, ""),
		mode:           read(interceptionMode, "", ""),
		gids:           read("", variableGID, ""),
		onlyGroups:     read("", ownerGroups, "*"),
		exceptGroups:   read("", ownerGroupsExclude, ""),
	}
}

// capturePaths are where the annotations stand, made once: they are looked at for every pod. The empty
// key is that of what no annotation says.
var capturePaths = func() map[string]*field.Path {
	paths := map[string]*field.Path{}
	for _, key := range []string{"", excludeOutboundPorts, includeOutboundPorts, excludeOutboundRanges, includeOutboundRanges, includeInboundPorts, excludeInboundPorts, excludeInterfaces, interceptionMode, proxyConfig} {
		paths[key] = annotationsPath.Key(key)
	}
	return paths
}()

// The variables of the flags that annotations speak of.
var (
	variableExcludePorts   = flagExcludePorts.variable()
	variableIncludePorts   = flagIncludePorts.variable()
	variableExcludeInbound = flagExcludeInbound.variable()
	variableIncludeInbound = flagIncludeInbound.variable()
	variableInterfaces     = flagInterfaces.variable()
	variableGID            = flagGID.variable()
)

// proxyMetadata returns the environment that the annotation proxy.istio.io/config gives to Istio's
// containers. What cannot be read is Istio's to refuse (validateProxyConfig).
func proxyMetadata(config string) map[string]string {
	if config == "" {
		return nil // as of most pods; a YAML parser takes a large part of an admission's time
	}
	var parsed struct {
		ProxyMetadata map[string]string `json:"proxyMetadata"`
		ProtoName     map[string]string `json:"proxy_metadata"` // protobuf's JSON takes either
	}
	if yaml.Unmarshal([]byte(config), &parsed) != nil {
		return nil
	}
	if parsed.ProxyMetadata == nil {
		return parsed.ProtoName
	}
	return parsed.ProxyMetadata
}

// option is a flag of istio-iptables (tools/istio-iptables/pkg/cmd/root.go). Its variable holds where
// the argument is absent (pkg/flag BindEnv).
type option struct{ short, long string }

var (
	flagExcludePorts   = option{"-o", "istio-local-outbound-ports-exclude"}
	flagIncludePorts   = option{"-q", "istio-outbound-ports"}
	flagExcludeRanges  = option{"-x", "istio-service-exclude-cidr"}
	flagIncludeRanges  = option{"-i", "istio-service-cidr"}
	flagIncludeInbound = option{"-b", "istio-inbound-ports"}
	flagExcludeInbound = option{"-d", "istio-local-exclude-ports"}
	flagInterfaces     = option{"-c", "istio-exclude-interfaces"}
	flagMode           = option{"-m", "istio-inbound-interception-mode"}
	flagUID            = option{"-u", "proxy-uid"}
	flagGID            = option{"-g", "proxy-gid"}
)

// Variables of istio-iptables that have no flag (tools/istio-iptables/pkg/constants).
const (
	ownerGroups        = "ISTIO_OUTBOUND_OWNER_GROUPS"
	ownerGroupsExclude = "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE"
)

func (o option) variable() string { return strings.ToUpper(strings.ReplaceAll(o.long, "-", "_")) }

// injectedCapture reads istio-init or istio-validation. Without -i nothing is captured
// ("an empty list will disable all outbound").
func injectedCapture(c container) capture {
	return capture{
		excludePorts:   c.option(flagExcludePorts),
		includePorts:   c.option(flagIncludePorts),
		excludeRanges:  c.option(flagExcludeRanges),
		includeRanges:  c.option(flagIncludeRanges),
		excludeInbound: c.option(flagExcludeInbound),
		includeInbound: c.option(flagIncludeInbound),
		interfaces:     c.option(flagInterfaces),
		mode:           c.option(flagMode),
		uids:           c.option(flagUID),
		gids:           c.option(flagGID),
		onlyGroups:     c.variable(ownerGroups, "*"),
		exceptGroups:   c.variable(ownerGroupsExclude, ""),
	}
}

// option returns the last value of an argument, in any spelling that pflag takes, else of its variable.
func (c container) option(f option) setting {
	s := setting{c.at.Child("args"), f.short, ""}
	found := false
	args := slices.Concat(c.Command, c.Args)
	for i, arg := range args {
		name, value, inline := strings.Cut(arg, "=")
		switch {
		case name != f.short && name != "--"+f.long:
			if len(arg) > 2 && strings.HasPrefix(arg, f.short) {
				s.value, found = strings.TrimPrefix(arg[2:], "="), true
			}
		case inline:
			s.key, s.value, found = name, value, true
		case i+1 < len(args):
			s.key, s.value, found = name, args[i+1], true
		}
	}
	if found {
		return s
	}
	if v := c.variable(f.variable(), ""); v.value != "" {
		return v
	}
	return s
}

// explainedBy gives settings that an annotation was the source of the place of that annotation, where
// the user can change them.
func (c capture) explainedBy(annotated capture) capture {
	for _, pair := range []struct{ to, from *setting }{
		{&c.excludePorts, &annotated.excludePorts}, {&c.includePorts, &annotated.includePorts},
		{&c.excludeRanges, &annotated.excludeRanges}, {&c.includeRanges, &annotated.includeRanges},
		{&c.includeInbound, &annotated.includeInbound},
		{&c.interfaces, &annotated.interfaces}, {&c.mode, &annotated.mode},
		{&c.onlyGroups, &annotated.onlyGroups}, {&c.exceptGroups, &annotated.exceptGroups},
	} {
		if pair.to.value == pair.from.value {
			*pair.to = *pair.from
		}
	}
	return c
}

// variable returns the value of an environment variable of the container.
func (c container) variable(name, otherwise string) setting {
	s := setting{c.at.Child("env"), name, otherwise}
	for i, env := range c.Env {
		if env.Name == name {
			s.at, s.value = c.at.Child("env").Index(i), env.Value
		}
	}
	return s
}
