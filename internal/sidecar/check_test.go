package sidecar

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

func TestWarnings(t *testing.T) {
	migrate := initContainer(corev1.Container{Name: "migrate"})
	for name, test := range map[string]struct {
		changes []change
		os      []origination.Origination
		want    []string
	}{
		"an init container beside a classic sidecar": {
			changes: []change{migrate, classic},
			os:      one(),
			want:    []string{`spec.initContainers[0]: init container "migrate" runs before istio-proxy: if it dials redis.example.com, it cannot reach it`},
		},
		"one that dials an IP would not even get TLS": {
			changes: []change{migrate, classic},
			os:      one(addressed("10.0.0.3/32")),
			want:    []string{`spec.initContainers[0]: init container "migrate" runs before istio-proxy: if it dials ip-10-0-0-3, it would reach it without TLS`},
		},
		"a classic sidecar that is still to come": {
			changes: []change{migrate, annotated(istioNativeSidecar, "false")},
			os:      one(),
			want:    []string{`spec.initContainers[0]: init container`},
		},
		"nobody knows which sidecar comes": {
			changes: []change{migrate},
			os:      one(),
		},
		"an init container after a native sidecar": {
			changes: []change{native, migrate},
			os:      one(),
		},
		"an init container before a native sidecar": {
			changes: []change{native, func(p *corev1.Pod) {
				p.Spec.InitContainers = append([]corev1.Container{{Name: "first"}}, p.Spec.InitContainers...)
			}},
			os:   one(),
			want: []string{`spec.initContainers[0]: init container "first" runs before`},
		},
		"without originations there is nothing to warn": {changes: []change{migrate, classic}},
		"a further interface is excluded, an IP dialled": {
			changes: []change{annotated(excludeInterfaces, "net1")},
			os:      one(addressed("10.0.0.3/32")),
			want:    []string{`metadata.annotations[traffic.sidecar.istio.io/excludeInterfaces]: "net1" excludes`},
		},
		"a further interface is excluded, a host pinned": {
			changes: []change{annotated(excludeInterfaces, "net1")},
			os:      one(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			problems, warnings := check(newPod(test.changes...), test.os)
			wantProblems(t, problems)
			wantBeginnings(t, "warnings", warnings, test.want)
		})
	}
}

// A VIP is drawn after Check.
func TestThePinIsJudgedWhenItIsKnown(t *testing.T) {
	for key, value := range map[string]string{excludeOutboundRanges: "240.241.0.0/16", includeOutboundRanges: "10.0.0.0/8"} {
		facts, o := Read(newPod(annotated(key, value)), meshed), newOrigination()
		problems, _ := facts.Check([]origination.Origination{o})
		wantProblems(t, problems)
		wantProblems(t, facts.Uncaptured(&o), "SidecarBypassed: metadata.annotations["+key+"]")
	}
}

func TestEveryProblemIsReported(t *testing.T) {
	pod := newPod(hostNetwork, label(istioInject, "false"), annotated(excludeOutboundPorts, "6379"), annotated(interceptionMode, "NONE"), userOf(1337))
	problems, _ := check(pod, one())
	wantProblems(t, problems, "HostNetwork: ", "NoSidecar: metadata.labels", "SidecarBypassed: metadata.annotations[sidecar.istio.io/interceptionMode]", "SidecarBypassed: metadata.annotations[traffic", "SidecarBypassed: spec.containers[0]")
}
