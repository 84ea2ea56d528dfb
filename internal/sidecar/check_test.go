package sidecar

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

func TestWarnings(t *testing.T) {
	c := catalog.Open(t)
	migrate := initContainer(corev1.Container{Name: "migrate"})
	for name, test := range map[string]struct {
		changes      []change
		originations []origination.Origination
		want         []string
	}{
		"an init container with a classic sidecar": {
			changes:      []change{migrate, classic},
			originations: one(),
			want:         []string{`spec.initContainers[0]`},
		},
		"an init container that dials an IP": {
			changes:      []change{migrate, classic},
			originations: one(addressed("10.0.0.3/32")),
			want:         []string{`spec.initContainers[0]`},
		},
		"a classic sidecar that is not injected yet": {
			changes:      []change{migrate, annotated(istioNativeSidecar, "false")},
			originations: one(),
			want:         []string{`spec.initContainers[0]`},
		},
		"the kind of sidecar is not known": {
			changes:      []change{migrate},
			originations: one(),
		},
		"an init container after a native sidecar": {
			changes:      []change{native, migrate},
			originations: one(),
		},
		"an init container before a native sidecar": {
			changes: []change{native, func(p *corev1.Pod) {
				p.Spec.InitContainers = append([]corev1.Container{{Name: "first"}}, p.Spec.InitContainers...)
			}},
			originations: one(),
			want:         []string{`spec.initContainers[0]`},
		},
		"no originations": {changes: []change{migrate, classic}},
		"a further interface is excluded, an IP dialled": {
			changes:      []change{annotated(excludeInterfaces, "net1")},
			originations: one(addressed("10.0.0.3/32")),
			want:         []string{`metadata.annotations[traffic.sidecar.istio.io/excludeInterfaces]`},
		},
		"a further interface is excluded, a host pinned": {
			changes:      []change{annotated(excludeInterfaces, "net1")},
			originations: one(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			problems, warnings := check(newPod(test.changes...), test.originations)
			c.Add(name, warnings...)
			wantProblems(t, problems)
			wantWarnings(t, warnings, test.want...)
		})
	}
}

// A VIP is drawn after Check.
func TestTheVIPIsCheckedOnceItIsKnown(t *testing.T) {
	for key, value := range map[string]string{
		excludeOutboundRanges: "240.241.0.0/16",
		includeOutboundRanges: "10.0.0.0/8",
	} {
		facts, o := Read(newPod(annotated(key, value)), meshed), newOrigination()
		problems, _ := facts.Check([]origination.Origination{o})
		wantProblems(t, problems)
		wantProblems(t, facts.CheckVIPs(&o), "SidecarBypassed: metadata.annotations["+key+"]")
	}
}

func TestEveryProblemIsReported(t *testing.T) {
	pod := newPod(
		hostNetwork,
		label(istioInject, "false"),
		annotated(excludeOutboundPorts, "6379"),
		annotated(interceptionMode, "NONE"),
		userOf(1337),
	)
	problems, _ := check(pod, one())
	wantProblems(t, problems,
		"HostNetwork: spec.hostNetwork",
		"NoSidecar: metadata.labels[sidecar.istio.io/inject]",
		"SidecarBypassed: metadata.annotations[sidecar.istio.io/interceptionMode]",
		"SidecarBypassed: metadata.annotations[traffic.sidecar.istio.io/excludeOutboundPorts]",
		"SidecarBypassed: spec.containers[0].securityContext.runAsUser")
}
