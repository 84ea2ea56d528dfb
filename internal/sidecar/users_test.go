package sidecar

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func proxyRunsAs(uid int64) change {
	return func(pod *corev1.Pod) { pod.Spec.InitContainers[1].SecurityContext = runsAs(&uid, nil) }
}

func TestAppsThatRunAsTheProxy(t *testing.T) {
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
		"a container":         {[]change{userOf(1337)}, []string{`Bypass: spec.containers[0].securityContext.runAsUser: Invalid value: "1337": container "app" runs as the user of istio-proxy`}},
		"a container's group": {[]change{groupOf(1337)}, []string{`Bypass: spec.containers[0].securityContext.runAsGroup: Invalid value: "1337": container "app" runs as the group`}},
		"an init container":   {[]change{initContainer(corev1.Container{Name: "migrate", SecurityContext: runsAs(id, nil)})}, []string{`Bypass: spec.initContainers[0].securityContext.runAsUser`}},
		"the pod":             {[]change{podWide(id, nil)}, []string{`Bypass: spec.securityContext.runAsUser: Invalid value: "1337": container "app"`}},
		"the pod's group":     {[]change{podWide(nil, id)}, []string{`Bypass: spec.securityContext.runAsGroup`}},
		"the pod, its container as somebody else":                     {[]change{podWide(id, id), func(p *corev1.Pod) { p.Spec.Containers[0].SecurityContext = runsAs(other, other) }}, nil},
		"the pod as somebody else, its container":                     {[]change{podWide(other, nil), userOf(1337)}, []string{`Bypass: spec.containers[0].securityContext.runAsUser`}},
		"a container that sets only the group":                        {[]change{podWide(id, nil), groupOf(1000)}, []string{`Bypass: spec.securityContext.runAsUser`}},
		"two containers":                                              {[]change{userOf(1337), appContainer(corev1.Container{Name: "b", SecurityContext: runsAs(nil, id)})}, []string{`Bypass: spec.containers[0]`, `Bypass: spec.containers[1].securityContext.runAsGroup`}},
		"the volumes' group does not matter":                          {[]change{podWide(nil, nil)}, nil},
		"somebody else, beside a sidecar that does not say who it is": {[]change{native, podWide(other, other)}, nil},
		"somebody else":                                               {[]change{podWide(other, other)}, nil},
		"Istio's own containers may":                                  {[]change{native, proxyRunsAs(1337), initContainer(corev1.Container{Name: istioValidation, SecurityContext: runsAs(id, id)}), initContainer(corev1.Container{Name: istioCoreDump, SecurityContext: runsAs(id, id)})}, nil},
		"an app named like Istio's init container":                    {[]change{appContainer(corev1.Container{Name: istioInit, SecurityContext: runsAs(id, nil)})}, []string{`Bypass: spec.containers[1]`}},
		"a placeholder with the app's user":                           {[]change{userOf(1000), appContainer(corev1.Container{Name: istioProxy, SecurityContext: runsAs(other, nil)})}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			problems, _ := check(newPod(test.changes...), one())
			wantProblems(t, problems, test.problems...)
		})
	}
}
