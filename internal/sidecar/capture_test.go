package sidecar

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/test/catalog"
)

// Only the injected containers show mesh-wide values, and those of a custom template.
func TestBypassByInjectedContainers(t *testing.T) {
	c := catalog.Open(t)
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
		"nothing is excluded":                    {changes: []change{native}},
		"a classic sidecar, nothing is excluded": {changes: []change{classic}},
		"the mesh excludes the port": {
			changes: []change{native, withArgs("-o", "80,6379")},
			problem: `SidecarBypassed: ` + args,
		},
		"the mesh excludes a range of ports": {
			changes: []change{native, withArgs("-o", "6000:6999")},
			problem: `SidecarBypassed: ` + args,
		},
		"the mesh excludes the port, long spelling": {
			changes: []change{native, withArgs("--istio-local-outbound-ports-exclude=6379")},
			problem: `SidecarBypassed: ` + args,
		},
		"the mesh excludes the port, joined spelling": {
			changes: []change{native, withArgs("-o6379")},
			problem: `SidecarBypassed: ` + args,
		},
		"the mesh excludes the port, spelled with =": {
			changes: []change{native, withArgs("-o=6379")},
			problem: `SidecarBypassed: ` + args,
		},
		"the last spelling counts": {
			changes: []change{native, withArgs("-o", "6379", "-o", "80")},
		},
		"the mesh excludes the port, with istio-cni": {
			changes: []change{native, validation, withArgs("-o", "6379")},
			problem: `SidecarBypassed: ` + args,
		},
		"a container of that name that does not run istio-iptables": {
			changes: []change{native, func(pod *corev1.Pod) { pod.Spec.InitContainers[0].Args = []string{"-o", "6379"} }},
		},
		"istio-iptables without ranges": {
			changes: []change{native, func(pod *corev1.Pod) {
				pod.Spec.InitContainers[0].Args, pod.Spec.InitContainers[0].Command = nil, []string{"istio-iptables"}
			}},
			problem: `SidecarBypassed: ` + args,
		},
		"the mesh excludes the port by a variable": {
			changes: []change{native, withEnv("ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE", "6379")},
			problem: `SidecarBypassed: ` + env,
		},
		"an argument hides the variable": {
			changes: []change{native, withArgs("-o", "80"), withEnv("ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE", "6379")},
		},
		"the mesh excludes the VIP's range": {
			changes: []change{native, withArgs("-x", "240.0.0.0/4")},
			problem: `SidecarBypassed: ` + args,
		},
		"the mesh includes other ranges": {
			changes: []change{native, withArgs("-i", "10.0.0.0/8")},
			problem: `SidecarBypassed: ` + args,
		},
		"the mesh includes other ranges and the port": {
			changes: []change{native, withArgs("-i", "10.0.0.0/8", "-q", "6379")},
		},
		"the mesh excludes the pod's interface": {
			changes: []change{native, withArgs("-c", "eth0")},
			problem: `SidecarBypassed: ` + args,
		},
		"an annotation is named rather than its argument": {
			changes: []change{native, annotated(excludeOutboundPorts, "6379"), withArgs("-o", "6379")},
			problem: `SidecarBypassed: metadata.annotations[traffic.sidecar.istio.io/excludeOutboundPorts]`,
		},
		"without interception": {
			changes: []change{native, mode},
			problem: `SidecarBypassed: spec.initContainers[1].env[1]`,
		},
		"an init container without interception": {
			changes: []change{native, withArgs("-m", "NONE")},
			problem: `SidecarBypassed: ` + args,
		},
		"the app runs as the proxy's user": {
			changes: []change{native, withArgs("-u", "2000"), userOf(2000)},
			problem: `SidecarBypassed: spec.containers[0].securityContext.runAsUser`,
		},
		"the app's group is the proxy's user's": {
			changes: []change{native, withArgs("-u", "2000"), groupOf(2000)},
			problem: `SidecarBypassed: spec.containers[0].securityContext.runAsGroup`,
		},
		"the app's group is the proxy's": {
			changes: []change{native, withArgs("-u", "2000", "-g", "3000"), groupOf(3000)},
			problem: `SidecarBypassed: spec.containers[0].securityContext.runAsGroup`,
		},
		"the proxy has a group of its own": {
			changes: []change{native, withArgs("-u", "2000", "-g", "3000"), groupOf(2000)},
		},
		"the app runs as the injected proxy, istio-cni": {
			changes: []change{native, proxyRunsAs(2000), userOf(2000)},
			problem: `SidecarBypassed: spec.containers[0].securityContext.runAsUser`,
		},
		"root is not the proxy, even if that is root": {
			changes: []change{native, proxyRunsAs(0), userOf(0)},
		},
		"a group excluded by a variable": {
			changes: []change{native, withEnv(ownerGroupsExclude, "2000"), groupOf(2000)},
			problem: `SidecarBypassed: ` + env,
		},
	} {
		t.Run(name, func(t *testing.T) {
			problems, _ := check(newPod(test.changes...), one())
			c.Add(name, texts(problems)...)
			wantProblems(t, problems, test.problem)
		})
	}
}
