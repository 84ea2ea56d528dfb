package annotation

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// TestNamespaceAndAnnotationsDecide is the truth table of Resolve, and the precedence of the places.
func TestNamespaceAndAnnotationsDecide(t *testing.T) {
	messages := catalog.Open(t)
	const host = "redis-tls/host"
	helm := func(pairs ...string) config.Config {
		cfg := config.Default()
		cfg.Defaults = keysAndValues(pairs...)
		return cfg
	}
	in := func(change func(*Input), pairs ...string) Input {
		i := inherit(pairs...)
		change(&i)
		return i
	}
	label := func(value string) func(*Input) {
		return func(i *Input) { i.NamespaceLabels = map[string]string{"redis-tls/injection": value} }
	}
	optOut := func(labels, annotations string) func(*Input) {
		return func(i *Input) {
			i.Labels = map[string]string{"redis-tls/inject": labels}
			i.Annotations = map[string]string{"redis-tls/inject": annotations}
		}
	}
	disabled := "namespace.metadata.labels[redis-tls/injection]: Invalid value"
	excluded := "metadata.namespace: Invalid value"
	for _, test := range []struct {
		name      string
		in        Input
		cfg       config.Config
		hosts     []string
		requested bool
		skip      origination.Reason
		place     []string
		errors    []string
		warnings  []string
	}{
		{
			name: "no key anywhere",
			in:   pod(),
			skip: origination.ReasonNotRequested,
		},
		{
			name: "only keys of other projects",
			in:   pod("example.com/host", "a.example.com", "host", "a.example.com", "notredis-tls/host", "a.example.com"),
			skip: origination.ReasonNotRequested,
		},
		{
			name: "inject and the webhook's annotations request nothing",
			in: pod(
				"redis-tls/inject", "true",
				"redis-tls/status", "forged",
				"redis-tls/vips", "forged",
				"redis-tls/first-use", "forged",
			),
			skip: origination.ReasonNotRequested,
		},
		{
			name:      "the pod requests TLS",
			in:        pod(host, "pod.example.com"),
			hosts:     []string{"pod.example.com"},
			requested: true,
		},
		{
			name:  "the pod inherits from the namespace",
			in:    inherit(host, "ns.example.com"),
			hosts: []string{"ns.example.com"},
		},
		{
			name:  "the pod inherits from the Helm values",
			in:    inherit(),
			cfg:   helm(host, "helm.example.com"),
			hosts: []string{"helm.example.com"},
		},
		{
			name:  "the namespace overrides the Helm values",
			in:    inherit(host, "ns.example.com"),
			cfg:   helm(host, "helm.example.com"),
			hosts: []string{"ns.example.com"},
		},
		{
			name:      "the pod overrides both",
			in:        in(func(i *Input) { i.Annotations = keysAndValues(host, "pod.example.com") }, host, "ns.example.com"),
			cfg:       helm(host, "helm.example.com"),
			hosts:     []string{"pod.example.com"},
			requested: true,
		},
		{
			name:      "an empty value on the pod removes an inherited Redis",
			in:        in(func(i *Input) { i.Annotations = keysAndValues(host, "") }, host, "ns.example.com"),
			requested: true,
			skip:      origination.ReasonNotRequested,
		},
		{
			name: "an empty value on the namespace overrides the Helm values",
			in:   inherit(host, ""),
			cfg:  helm(host, "helm.example.com"),
			skip: origination.ReasonNotRequested,
		},
		{
			name: "inherited keys without a host request nothing",
			in:   inherit("redis-tls/port", "x", "redis-tls/mode", "y"),
			cfg:  helm("redis-tls/ca-secret", "Z"),
			skip: origination.ReasonNotRequested,
		},
		{
			name: "without the label the Helm values are ignored",
			in:   pod(),
			cfg:  helm(host, "helm.example.com"),
			skip: origination.ReasonNotRequested,
		},
		{
			name: "without the label the namespace is ignored, with a warning to an annotated pod",
			in: in(
				func(i *Input) { i.NamespaceLabels, i.Annotations = nil, keysAndValues(host, "pod.example.com") },
				"redis-tls/port", "1",
			),
			hosts:     []string{"pod.example.com"},
			requested: true,
			warnings:  []string{"namespace shop"},
		},
		{
			name: "without the label a pod without annotations gets no warning",
			in:   in(func(i *Input) { i.NamespaceLabels = nil }, host, "ns.example.com"),
			skip: origination.ReasonNotRequested,
		},
		{
			name: "opted out by label",
			in:   in(optOut("false", "true"), host, "ns.example.com"),
			skip: origination.ReasonOptedOut,
		},
		{
			name: "opted out by annotation",
			in:   in(optOut("true", "false"), host, "ns.example.com"),
			skip: origination.ReasonOptedOut,
		},
		{
			name: "an annotated pod opts out in a disabled namespace",
			in: in(func(i *Input) {
				label("disabled")(i)
				i.Annotations = keysAndValues(host, "localhost", "redis-tls/inject", "false")
			}),
			requested: true,
			skip:      origination.ReasonOptedOut,
		},
		{
			name:  "inject true changes nothing",
			in:    in(optOut("true", "true"), host, "ns.example.com"),
			hosts: []string{"ns.example.com"},
		},
		{
			name: "pods inherit nothing in a disabled namespace",
			in:   in(label("disabled"), host, "ns.example.com"),
			cfg:  helm(host, "helm.example.com"),
			skip: origination.ReasonNotRequested,
		},
		{
			name:      "an annotated pod is refused in a disabled namespace",
			in:        in(func(i *Input) { label("disabled")(i); i.Annotations = keysAndValues(host, "pod.example.com") }),
			hosts:     []string{"pod.example.com"},
			requested: true,
			place:     []string{disabled},
		},
		{
			name:      "an annotated pod with errors in a disabled namespace",
			in:        in(func(i *Input) { label("disabled")(i); i.Annotations = keysAndValues(host, "*") }),
			requested: true,
			place:     []string{disabled},
			errors:    []string{podKey + "host]: Invalid value"},
		},
		{
			name:      "an annotated pod is refused in an excluded namespace",
			in:        Input{Namespace: "kube-system", Annotations: keysAndValues(host, "pod.example.com")},
			hosts:     []string{"pod.example.com"},
			requested: true,
			place:     []string{excluded},
		},
		{
			name:  "pods cannot inherit in an excluded namespace, not even wrong values",
			in:    in(func(i *Input) { i.Namespace = "kube-system" }, host, "*"),
			place: []string{excluded},
		},
		{
			name: "nothing is requested in an excluded namespace",
			in:   in(func(i *Input) { i.Namespace = "kube-system" }),
			skip: origination.ReasonNotRequested,
		},
		{
			name:      "an annotated pod is refused for an unknown label value",
			in:        in(func(i *Input) { label("true")(i); i.Annotations = keysAndValues(host, "pod.example.com") }),
			requested: true,
			errors:    []string{"namespace.metadata.labels[redis-tls/injection]: Unsupported value"},
		},
		{
			name:     "an unknown label value opts no pod in, with a warning",
			in:       in(label("Enabled"), host, "ns.example.com"),
			skip:     origination.ReasonNotRequested,
			warnings: []string{"namespace shop"},
		},
		{
			name:   "an inherited error names the namespace",
			in:     inherit(host, "a.example.com", "redis-tls/port", "x"),
			errors: []string{"namespace.metadata.annotations[redis-tls/port]: Invalid value"},
		},
		{
			name:   "an inherited error names the Helm values",
			in:     inherit(host, "a.example.com"),
			cfg:    helm("redis-tls/port", "x"),
			errors: []string{"defaults[redis-tls/port]: Invalid value"},
		},
		{
			name:   "the error for an invalid instance has its path",
			in:     inherit("a.b.redis-tls/host", "a.example.com"),
			errors: []string{"namespace.metadata.annotations[a.b.redis-tls/host]: Invalid value"},
		},
		{
			name:  "keys that are allowed only on pods are ignored on a namespace, with a warning",
			in:    inherit(host, "a.example.com", "redis-tls/inject", "false", "redis-tls/server", "strict"),
			hosts: []string{"a.example.com"},
			warnings: []string{
				`namespace shop: annotation "redis-tls/inject" is ignored`,
				`namespace shop: annotation "redis-tls/server" is ignored`},
		},
		{
			name: "an inherited restriction without a Redis",
			in:   inherit("redis-tls/sidecar", "restrict"),
			skip: origination.ReasonNotRequested,
		},
		{
			name:     "server is not inherited",
			in:       inherit("redis-tls/server", "strict"),
			skip:     origination.ReasonNotRequested,
			warnings: []string{`namespace shop: annotation "redis-tls/server" is ignored`},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.cfg.VIP.CIDR.Addr().BitLen() == 0 {
				test.cfg = config.Default()
			}
			res := Resolve(test.in, test.cfg, cluster)
			var hosts, place []string
			for _, o := range res.Originations {
				hosts = append(hosts, o.Host)
			}
			for _, p := range res.NamespaceProblems {
				place = append(place, fmt.Sprintf("%s: %s", p.Err.Field, p.Err.Type))
				messages.Add(test.name, p.Err.Error())
				if p.Reason != origination.ReasonNamespaceDisabled {
					t.Errorf("the reason of the namespace is %s", p.Reason)
				}
			}
			for what, lists := range map[string][2][]string{"hosts": {test.hosts, hosts}, "place": {test.place, place}} {
				if diff := cmp.Diff(lists[0], lists[1], cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s differ (-want +got):\n%s", what, diff)
				}
			}
			wantErrors(t, res, test.errors...)
			wantWarnings(t, res.Warnings, test.warnings...)
			messages.Add(test.name, append(errorTexts(res.Errors), res.Warnings...)...)
			if res.Requested != test.requested || res.Skip != test.skip {
				t.Errorf("requested %t, skip %q; want %t, %q", res.Requested, res.Skip, test.requested, test.skip)
			}
		})
	}
}

// TestEveryKeyIsInheritedByPresence runs the precedence over the whole table.
func TestEveryKeyIsInheritedByPresence(t *testing.T) {
	for _, k := range Keys() {
		if k.Scope != ScopeInstance {
			continue
		}
		for mask := range 8 {
			t.Run(fmt.Sprintf("%s from places %03b", k.Name, mask), func(t *testing.T) {
				key, cfg, in := "x.redis-tls/"+k.Name, config.Default(), inherit()
				want := ""
				if mask&1 != 0 {
					cfg.Defaults, want = keysAndValues(key, "helm"), "helm"
				}
				if mask&2 != 0 {
					in.NamespaceAnnotations, want = keysAndValues(key, "namespace"), "namespace"
				}
				if mask&4 != 0 {
					in.Annotations, want = keysAndValues(key, "pod"), "pod"
				}
				l := layer(sources(in, cfg))
				if i := l.instances["x"]; mask == 0 && i != nil || mask != 0 && (i == nil || i.value(k.Name) != want) {
					t.Errorf("instance %+v, want value %q", i, want)
				}
			})
		}
	}
}
