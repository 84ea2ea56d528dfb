package sidecar

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestCheckServer(t *testing.T) {
	const ex, in = "metadata.annotations[traffic.sidecar.istio.io/excludeInboundPorts]", "metadata.annotations[traffic.sidecar.istio.io/includeInboundPorts]"
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
		"nothing is said":                      {nil, nil, nil},
		"all is included":                      {[]change{annotated(includeInboundPorts, "*")}, nil, nil},
		"Redis's port is excluded":             {[]change{annotated(excludeInboundPorts, "9121, 6379")}, []string{`SidecarBypassed: ` + ex + `: Invalid value: "9121, 6379": excludes port 6379, on which Redis listens, so clients reach it around the sidecar, in plaintext; take it out of the list`}, nil},
		"an exporter's port is":                {[]change{annotated(excludeInboundPorts, "9121")}, nil, []string{ex + ": clients of port 9121 reach it around the sidecar, in plaintext: Redis must not listen there"}},
		"the sidecar's own ports are":          {[]change{annotated(excludeInboundPorts, "15020,15021")}, nil, nil},
		"none is included":                     {[]change{annotated(includeInboundPorts, "")}, []string{`SidecarBypassed: ` + in + `: Invalid value: "": does not include port 6379, on which Redis listens, so clients reach it around the sidecar, in plaintext; set it to "*"`}, nil},
		"others are included":                  {[]change{annotated(includeInboundPorts, "8080")}, []string{`SidecarBypassed: ` + in + `: Invalid value: "8080": does not include port 6379`}, nil},
		"Redis's alone is, exclusions or not":  {[]change{annotated(includeInboundPorts, "6379"), annotated(excludeInboundPorts, "6379")}, nil, []string{in + `: "6379": clients of other ports than these reach them around the sidecar, in plaintext`}},
		"the mesh's own settings as injected":  {[]change{native}, nil, nil},
		"the mesh excludes it":                 {[]change{native, withArgs("-d", "15090,15021,15020,6379")}, []string{`SidecarBypassed: spec.initContainers[0].args: Invalid value: "-d 15090,15021,15020,6379": excludes port 6379`}, nil},
		"the mesh includes none":               {[]change{native, withArgs("-b", "")}, []string{`SidecarBypassed: spec.initContainers[0].args: Invalid value: "-b ": does not include port 6379`}, nil},
		"a range of the mesh's has it":         {[]change{native, withArgs("-d", "6000:6999")}, []string{`SidecarBypassed: spec.initContainers[0].args`}, nil},
		"it is excluded by the proxy metadata": {[]change{annotated(proxyConfig, "proxyMetadata: {ISTIO_LOCAL_EXCLUDE_PORTS: \"6379\"}")}, []string{`SidecarBypassed: metadata.annotations[proxy.istio.io/config]: Invalid value: "ISTIO_LOCAL_EXCLUDE_PORTS 6379"`}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			problems, warnings := Read(newPod(test.changes...), meshed).CheckServer()
			wantProblems(t, problems, test.problems...)
			if !slices.Equal(test.warnings, warnings) {
				t.Errorf("warnings %q, want %q", warnings, test.warnings)
			}
		})
	}
}
