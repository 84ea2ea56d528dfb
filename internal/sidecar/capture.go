package sidecar

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// capture decides which traffic the sidecar gets, with one setting for each parameter. A pod may have several
// captures, and each must include the traffic. The first is that of the annotations: istio-cni reads them, and the
// injection template turns them into arguments. Once Istio's injector has run, istio-init or istio-validation have a
// further one in their arguments and variables, if they run istio-iptables.
type capture [parameters]setting

// setting is the value of a parameter, and where it is set.
type setting struct {
	at    *field.Path
	key   string // the flag or variable at that path; empty if the path is enough
	value string
}

// text returns the value as messages show it.
func (s setting) text() string { return strings.TrimPrefix(s.key+" "+s.value, " ") }

// readCaptures reads the captures of the pod.
func (p *Pod) readCaptures() {
	annotated := annotatedCapture(p.Annotations)
	p.captures = append(p.captures, annotated)
	if !p.Injected {
		return
	}
	for i := range p.initializers {
		c := &p.initializers[i]
		if args := slices.Concat(c.Command, c.Args); slices.Contains(args, "istio-iptables") {
			p.captures = append(p.captures, injectedCapture(c, args, annotated))
		}
	}
	for i := range p.Proxies {
		c := &p.Proxies[i]
		for j, env := range c.Env {
			if env.Name == interceptionModeEnv {
				byMode := annotatedCapture(nil)
				byMode[mode] = setting{c.Path().Child("env").Index(j), env.Name, env.Value}
				p.captures = append(p.captures, byMode)
			}
		}
	}
}

// annotatedCapture reads the annotations. Without one the mesh-wide value applies. Admission does not see it before
// the injector has run, so Istio's own default stands in.
func annotatedCapture(annotations map[string]string) *capture {
	metadata := proxyMetadata(annotations[proxyConfig])
	annotated := new(capture)
	for i := range table {
		p := &table[i]
		annotated[i] = setting{at: p.path, value: p.unset}
		if value, found := annotations[p.annotation]; found && p.annotation != "" {
			annotated[i].value = value
		} else if value, found := metadata[p.variable]; found && !p.flagOnly {
			annotated[i] = setting{proxyConfigPath, p.variable, value}
		}
	}
	return annotated
}

// proxyMetadata returns the environment that the annotation proxy.istio.io/config gives to Istio's containers. If it
// cannot be read, Istio refuses the pod (validateProxyConfig).
func proxyMetadata(config string) map[string]string {
	if config == "" {
		return nil // the usual value; a YAML parser takes a large part of the time of an admission
	}
	var parsed struct {
		ProxyMetadata map[string]string `json:"proxyMetadata"`
		ProtoName     map[string]string `json:"proxy_metadata"` // protobuf's JSON accepts both
	}
	if yaml.Unmarshal([]byte(config), &parsed) != nil {
		return nil
	}
	if parsed.ProxyMetadata == nil {
		return parsed.ProtoName
	}
	return parsed.ProxyMetadata
}

// injectedCapture reads the arguments and variables of a container that runs istio-iptables. A setting that equals
// the annotated one comes from it, and keeps its path: the user can change it there.
func injectedCapture(c *Container, args []string, annotated *capture) *capture {
	argsPath := c.Path().Child("args")
	injected := new(capture)
	for i := range table {
		injected[i] = table[i].injected(c, args, argsPath)
		if injected[i].value == annotated[i].value {
			injected[i] = annotated[i]
		}
	}
	return injected
}

// injected returns the setting of the parameter in the container: its argument, else its variable.
func (p *parameterRow) injected(c *Container, args []string, argsPath *field.Path) setting {
	if key, value, found := p.argument(args); found {
		return setting{argsPath, key, value}
	}
	variable, found := c.variable(p.variable)
	switch {
	case p.short == "" && !found:
		return setting{value: p.unset}
	case p.short == "" || variable.value != "":
		return variable
	default:
		return setting{at: argsPath, key: p.short}
	}
}

// argument returns the last value of the parameter's flag, in any spelling that pflag accepts.
func (p *parameterRow) argument(args []string) (key, value string, found bool) {
	if p.short == "" {
		return "", "", false
	}
	key = p.short
	for i, arg := range args {
		name, inline, isInline := strings.Cut(arg, "=")
		switch {
		case name != p.short && name != p.long:
			if len(arg) > len(p.short) && strings.HasPrefix(arg, p.short) {
				value, found = strings.TrimPrefix(arg[len(p.short):], "="), true
			}
		case isInline:
			key, value, found = name, inline, true
		case i+1 < len(args):
			key, value, found = name, args[i+1], true
		}
	}
	return key, value, found
}

// variable returns an environment variable of the container.
func (c *Container) variable(name string) (s setting, found bool) {
	for i := range c.Env {
		if c.Env[i].Name == name {
			s, found = setting{c.Path().Child("env").Index(i), name, c.Env[i].Value}, true
		}
	}
	return s, found
}
