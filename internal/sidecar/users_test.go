package sidecar

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

func proxyRunsAs(uid int64) change {
	return func(pod *corev1.Pod) { pod.Spec.InitContainers[1].SecurityContext = runsAs(&uid, nil) }
}

func TestAppsThatRunAsTheProxy(t *testing.T) {
	c := catalog.Open(t)
	podWide := func(uid, gid *int64) change {
		return func(pod *corev1.Pod) {
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: uid, RunAsGroup: gid, FSGroup: ptr.To[int64](1337)}
		}
	}
	id, other := ptr.To[int64](1337), ptr.To[int64](1000)
	for name, test := range map[string]struct {
		changes  []change
		problems []string
	}{
		"a container": {
			changes:  []change{userOf(1337)},
			problems: []string{`SidecarBypassed: spec.containers[0].securityContext.runAsUser`},
		},
		"a container's group": {
			changes:  []change{groupOf(1337)},
			problems: []string{`SidecarBypassed: spec.containers[0].securityContext.runAsGroup`},
		},
		"the pod": {
			changes:  []change{podWide(id, nil)},
			problems: []string{`SidecarBypassed: spec.securityContext.runAsUser`},
		},
		"the pod's group": {
			changes:  []change{podWide(nil, id)},
			problems: []string{`SidecarBypassed: spec.securityContext.runAsGroup`},
		},
		"the pod, its container as another user": {
			changes: []change{
				podWide(id, id),
				func(p *corev1.Pod) { p.Spec.Containers[0].SecurityContext = runsAs(other, other) },
			},
		},
		"the pod as another user, its container": {
			changes:  []change{podWide(other, nil), userOf(1337)},
			problems: []string{`SidecarBypassed: spec.containers[0].securityContext.runAsUser`},
		},
		"a container that sets only the group": {
			changes:  []change{podWide(id, nil), groupOf(1000)},
			problems: []string{`SidecarBypassed: spec.securityContext.runAsUser`},
		},
		"two containers": {
			changes: []change{userOf(1337), appContainer(corev1.Container{Name: "b", SecurityContext: runsAs(nil, id)})},
			problems: []string{
				`SidecarBypassed: spec.containers[0].securityContext.runAsUser`,
				`SidecarBypassed: spec.containers[1].securityContext.runAsGroup`,
			},
		},
		"the volumes' group does not matter": {
			changes: []change{podWide(nil, nil)},
		},
		"another user, with a sidecar that sets no user": {
			changes: []change{native, podWide(other, other)},
		},
		"another user": {
			changes: []change{podWide(other, other)},
		},
		"Istio's own containers may": {
			changes: []change{
				native,
				proxyRunsAs(1337),
				initContainer(corev1.Container{Name: istioValidation, SecurityContext: runsAs(id, id)}),
				initContainer(corev1.Container{Name: istioCoreDump, SecurityContext: runsAs(id, id)}),
			},
		},
		"an app named like Istio's init container": {
			changes:  []change{appContainer(corev1.Container{Name: istioInit, SecurityContext: runsAs(id, nil)})},
			problems: []string{`SidecarBypassed: spec.containers[1].securityContext.runAsUser`},
		},
		"a placeholder with the app's user": {
			changes: []change{
				userOf(1000),
				appContainer(corev1.Container{Name: istioProxy, SecurityContext: runsAs(other, nil)}),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			problems, _ := check(newPod(test.changes...), one())
			c.Add(name, texts(problems)...)
			wantProblems(t, problems, test.problems...)
		})
	}
}

// An init container whose traffic is not captured cannot reach a VIP, which reaches no server without the sidecar. It
// reaches an address without TLS.
func TestInitContainersWithoutCapture(t *testing.T) {
	c := catalog.Open(t)
	id, other := ptr.To[int64](1337), ptr.To[int64](2000)
	migrate := func(uid, gid *int64) change {
		return initContainer(corev1.Container{Name: "migrate", SecurityContext: runsAs(uid, gid)})
	}
	proxyMetadata := func(variable, value string) change {
		return annotated(proxyConfig, `{"proxyMetadata":{"`+variable+`":"`+value+`"}}`)
	}
	const at = "spec.initContainers[0].securityContext."
	const config = "metadata.annotations[proxy.istio.io/config]"
	cache := newOrigination(func(o *origination.Origination) { o.Host = "cache.example.com" })
	withAddress := func(o *origination.Origination) { o.Addresses = []netip.Prefix{netip.MustParsePrefix("10.0.0.3/32")} }
	for name, test := range map[string]struct {
		changes      []change
		originations []origination.Origination
		problems     []string
		warnings     []string
	}{
		"the proxy's user and a pinned host": {
			changes:      []change{migrate(id, nil)},
			originations: one(),
			warnings:     []string{at + "runAsUser"},
		},
		"the proxy's group and two pinned hosts": {
			changes:      []change{migrate(nil, id)},
			originations: append(one(), cache),
			warnings:     []string{at + "runAsGroup"},
		},
		"the user of the injected proxy": {
			changes: []change{native, proxyRunsAs(2000), func(pod *corev1.Pod) {
				pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{
					Name: "migrate", SecurityContext: runsAs(other, nil)})
			}},
			originations: one(),
			warnings:     []string{`spec.initContainers[2].securityContext.runAsUser`},
		},
		"an excluded group": {
			changes:      []change{proxyMetadata(ownerGroupsExclude, "2000"), migrate(nil, other)},
			originations: one(),
			warnings:     []string{config},
		},
		"a group that is not captured": {
			changes:      []change{proxyMetadata(ownerGroups, "1000"), migrate(nil, other), groupOf(1000)},
			originations: one(),
			warnings:     []string{config},
		},
		"the proxy's user and an address": {
			changes:      []change{migrate(id, nil)},
			originations: one(addressed("10.0.0.3/32")),
			problems:     []string{"SidecarBypassed: " + at + "runAsUser"},
		},
		"the proxy's user, a pinned host and an address of another": {
			changes:      []change{migrate(id, nil)},
			originations: append(one(), newOrigination(addressed("10.0.0.3/32"))),
			problems:     []string{"SidecarBypassed: " + at + "runAsUser"},
		},
		"the proxy's user and a pinned host with its address": {
			changes:      []change{migrate(id, nil)},
			originations: one(withAddress),
			problems:     []string{"SidecarBypassed: " + at + "runAsUser"},
		},
		"the proxy's user and a Service of the mesh": {
			changes:      []change{migrate(id, nil)},
			originations: service("10.96.0.10"),
			problems:     []string{"SidecarBypassed: " + at + "runAsUser"},
		},
		"the proxy's group and an address": {
			changes:      []change{migrate(nil, id)},
			originations: one(addressed("10.0.0.3/32")),
			problems:     []string{"SidecarBypassed: " + at + "runAsGroup"},
		},
		"nothing is originated": {changes: []change{migrate(id, id)}},
		"an init container that keeps running is one of the app's": {
			changes: []change{initContainer(corev1.Container{Name: "agent", SecurityContext: runsAs(id, nil),
				RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)})},
			originations: one(),
			problems:     []string{"SidecarBypassed: " + at + "runAsUser"},
		},
		"the app too": {
			changes:      []change{migrate(id, nil), userOf(1337)},
			originations: one(),
			problems:     []string{"SidecarBypassed: spec.containers[0].securityContext.runAsUser"},
			warnings:     []string{at + "runAsUser"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			problems, warnings := check(newPod(test.changes...), test.originations)
			c.Add(name, append(texts(problems), warnings...)...)
			wantProblems(t, problems, test.problems...)
			wantWarnings(t, warnings, test.warnings...)
		})
	}
}
