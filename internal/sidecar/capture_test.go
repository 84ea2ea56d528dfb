package sidecar

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// What only the injected containers show: mesh-wide values, and what a template of the mesh's own says.
func TestBypassByInjectedContainers(t *testing.T) {
	const args, env = "spec.initContainers[0].args", "spec.initContainers[0].env[0]"
	withArgs := func(a ...string) change {
		return func(pod *corev1.Pod) { pod.Spec.InitContainers[0].Args = initArgs(a...) }
	}
	withEnv := func(name, value string) change {
		return func(pod *corev1.Pod) {
			pod.Spec.InitContainers[0].Env = []corev1.EnvVar{{Name: name, Value: value}}
		}
	}
	validation := func(pod *corev1.Pod) { pod.Spec.InitContainers[0].Name = istioValidation }
	mode := func(pod *corev1.Pod) {
		pod.Spec.InitContainers[1].Env = []corev1.EnvVar{{Name: "A"}, {Name: interceptionModeEnv, Value: "NONE"}}
	}
	for name, test := range map[string]struct {
		changes []change
		problem string
	}{
		"nothing is in the way":                          {[]change{native}, ""},
		"a classic sidecar, nothing in the way":          {[]change{classic}, ""},
		"the mesh excludes our port":                     {[]change{native, withArgs("-o", "80,6379")}, `SidecarBypassed: ` + args + `: Invalid value: "-o 80,6379": excludes port 6379`},
		"the mesh excludes a range of ports":             {[]change{native, withArgs("-o", "6000:6999")}, `SidecarBypassed: ` + args},
		"the mesh excludes our port, long spelling":      {[]change{native, withArgs("--istio-local-outbound-ports-exclude=6379")}, `SidecarBypassed: ` + args + `: Invalid value: "--istio-local-outbound-ports-exclude 6379"`},
		"the mesh excludes our port, joined spelling":    {[]change{native, withArgs("-o6379")}, `SidecarBypassed: ` + args},
		"the mesh excludes our port, spelled with =":     {[]change{native, withArgs("-o=6379")}, `SidecarBypassed: ` + args},
		"the last spelling counts":                       {[]change{native, withArgs("-o", "6379", "-o", "80")}, ""},
		"the mesh excludes our port, with istio-cni":     {[]change{native, validation, withArgs("-o", "6379")}, `SidecarBypassed: ` + args},
		"a container of the name that is something else": {[]change{native, func(pod *corev1.Pod) { pod.Spec.InitContainers[0].Args = []string{"-o", "6379"} }}, ""},
		"an istio-iptables that is told no ranges": {[]change{native, func(pod *corev1.Pod) {
			pod.Spec.InitContainers[0].Args, pod.Spec.InitContainers[0].Command = nil, []string{"istio-iptables"}
		}}, `SidecarBypassed: ` + args + `: Invalid value: "-i ": does not include`},
		"the mesh excludes our port by a variable":        {[]change{native, withEnv("ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE", "6379")}, `SidecarBypassed: ` + env + `: Invalid value: "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE 6379"`},
		"an argument hides the variable":                  {[]change{native, withArgs("-o", "80"), withEnv("ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE", "6379")}, ""},
		"the mesh excludes the pin's range":               {[]change{native, withArgs("-x", "240.0.0.0/4")}, `SidecarBypassed: ` + args + `: Invalid value: "-x 240.0.0.0/4"`},
		"the mesh includes other ranges":                  {[]change{native, withArgs("-i", "10.0.0.0/8")}, `SidecarBypassed: ` + args + `: Invalid value: "-i 10.0.0.0/8": does not include`},
		"the mesh includes other ranges, but our port":    {[]change{native, withArgs("-i", "10.0.0.0/8", "-q", "6379")}, ""},
		"the mesh excludes the pod's interface":           {[]change{native, withArgs("-c", "eth0")}, `SidecarBypassed: ` + args + `: Invalid value: "-c eth0"`},
		"an annotation is named rather than its argument": {[]change{native, annotated(excludeOutboundPorts, "6379"), withArgs("-o", "6379")}, `SidecarBypassed: metadata.annotations[traffic.sidecar.istio.io/excludeOutboundPorts]`},
		"without interception":                            {[]change{native, mode}, `SidecarBypassed: spec.initContainers[1].env[1]: Invalid value: "ISTIO_META_INTERCEPTION_MODE NONE"`},
		"an init container without interception":          {[]change{native, withArgs("-m", "NONE")}, `SidecarBypassed: ` + args + `: Invalid value: "-m NONE"`},
		"the app runs as the proxy's user":                {[]change{native, withArgs("-u", "2000"), userOf(2000)}, `SidecarBypassed: spec.containers[0].securityContext.runAsUser: Invalid value: "2000"`},
		"the app's group is the proxy's user's":           {[]change{native, withArgs("-u", "2000"), groupOf(2000)}, `SidecarBypassed: spec.containers[0].securityContext.runAsGroup: Invalid value: "2000"`},
		"the app's group is the proxy's":                  {[]change{native, withArgs("-u", "2000", "-g", "3000"), groupOf(3000)}, `SidecarBypassed: spec.containers[0].securityContext.runAsGroup`},
		"the proxy has a group of its own":                {[]change{native, withArgs("-u", "2000", "-g", "3000"), groupOf(2000)}, ""},
		"the app runs as the injected proxy, istio-cni":   {[]change{native, proxyRunsAs(2000), userOf(2000)}, `SidecarBypassed: spec.containers[0].securityContext.runAsUser`},
		"root is not the proxy, even if that is root":     {[]change{native, proxyRunsAs(0), userOf(0)}, ""},
		"groups left out by a variable":                   {[]change{native, withEnv(ownerGroupsExclude, "2000"), groupOf(2000)}, `SidecarBypassed: ` + env},
	} {
		t.Run(name, func(t *testing.T) {
			problems, _ := check(newPod(test.changes...), one())
			wantProblems(t, problems, test.problem)
		})
	}
}
