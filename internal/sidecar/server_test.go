package sidecar

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/test/catalog"
)

func TestCheckServer(t *testing.T) {
	c := catalog.Open(t)
	const (
		ex = "metadata.annotations[traffic.sidecar.istio.io/excludeInboundPorts]"
		in = "metadata.annotations[traffic.sidecar.istio.io/includeInboundPorts]"
	)
	withArgs := func(a ...string) change {
		return func(pod *corev1.Pod) {
			pod.Spec.InitContainers[0].Args = append(initArgs(), a...)
		}
	}
	for name, test := range map[string]struct {
		changes  []change
		problems []string
		warnings []string
	}{
		"no setting":      {},
		"all is included": {changes: []change{annotated(includeInboundPorts, "*")}},
		"Redis's port is excluded": {
			changes:  []change{annotated(excludeInboundPorts, "9121, 6379")},
			problems: []string{`SidecarBypassed: ` + ex},
		},
		"an exporter's port is": {
			changes:  []change{annotated(excludeInboundPorts, "9121")},
			warnings: []string{ex},
		},
		"the sidecar's own ports are": {
			changes: []change{annotated(excludeInboundPorts, "15020,15021")},
		},
		"none is included": {
			changes:  []change{annotated(includeInboundPorts, "")},
			problems: []string{`SidecarBypassed: ` + in},
		},
		"others are included": {
			changes:  []change{annotated(includeInboundPorts, "8080")},
			problems: []string{`SidecarBypassed: ` + in},
		},
		"only Redis's port is included, exclusions have no effect": {
			changes:  []change{annotated(includeInboundPorts, "6379"), annotated(excludeInboundPorts, "6379")},
			warnings: []string{in},
		},
		"the mesh's own settings as injected": {changes: []change{native}},
		"the mesh excludes it": {
			changes:  []change{native, withArgs("-d", "15090,15021,15020,6379")},
			problems: []string{`SidecarBypassed: spec.initContainers[0].args`},
		},
		"the mesh includes none": {
			changes:  []change{native, withArgs("-b", "")},
			problems: []string{`SidecarBypassed: spec.initContainers[0].args`},
		},
		"a range of the mesh's has it": {
			changes:  []change{native, withArgs("-d", "6000:6999")},
			problems: []string{`SidecarBypassed: spec.initContainers[0].args`},
		},
		"it is excluded by the proxy metadata": {
			changes:  []change{annotated(proxyConfig, "proxyMetadata: {ISTIO_LOCAL_EXCLUDE_PORTS: \"6379\"}")},
			problems: []string{`SidecarBypassed: metadata.annotations[proxy.istio.io/config]`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			problems, warnings := Read(newPod(test.changes...), meshed).CheckServer()
			c.Add(name, append(texts(problems), warnings...)...)
			wantProblems(t, problems, test.problems...)
			wantWarnings(t, warnings, test.warnings...)
		})
	}
}
