package sidecar

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// FuzzRead holds that no value of Istio's settings panics, and that problems exist exactly where no sidecar is
// expected.
func FuzzRead(f *testing.F) {
	f.Add("", "", "")
	f.Add("*", "6379", "REDIRECT")
	f.Add("0.0.0.0/0,::/0", "1:2:3,-1", "NONE")
	f.Add("1.2.3.4/33,/,::1/129", "65536,99999999999999999999", "\xff")
	f.Fuzz(func(t *testing.T, ranges, ports, text string) {
		pod := newPod(native, label(istioInject, text), annotated(interceptionMode, text), annotated(proxyConfig, text),
			annotated(
				excludeOutboundRanges,
				ranges,
			), annotated(includeOutboundRanges, ranges), annotated(excludeOutboundPorts, ports),
			annotated(includeInboundPorts, ports), annotated(istioTemplates, text),
			func(p *corev1.Pod) { p.Spec.InitContainers[0].Args = initArgs("-x", ranges, "-o", ports, text) })
		originations := append(one(), newOrigination(addressed("10.0.0.0/8")))
		facts := Read(pod, namespace(istioInjection, text))
		problems, _ := facts.Check(originations)
		if facts.Expected == Never && len(problems) == 0 {
			t.Error("no sidecar is expected, but no problem gives the cause")
		}
		if facts.Expected == Unknown {
			t.Error("the pod has its sidecar, but Expected is Unknown")
		}
		for i := range originations {
			facts.CheckVIPs(&originations[i])
		}
		facts.CheckServer()
		if facts := Read(newPod(label(istioInject, text)), nil); facts.Injected ||
			facts.Expected == Likely && text != "true" {
			t.Errorf("a plain pod: injected %t, expected %d", facts.Injected, facts.Expected)
		}
	})
}

// The index of a path counts all containers of the list, not only those of one kind.
func TestPlacesOfContainers(t *testing.T) {
	for name, test := range map[string]struct {
		pod           *corev1.Pod
		path, pointer string
	}{
		"a native sidecar": {
			pod:     newPod(native),
			path:    "spec.initContainers[1]",
			pointer: "/spec/initContainers/1",
		},
		"a classic sidecar": {
			pod:     newPod(classic),
			path:    "spec.containers[1]",
			pointer: "/spec/containers/1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			proxies := Read(test.pod, nil).Proxies
			if len(proxies) != 1 || proxies[0].Path().String() != test.path || proxies[0].Pointer() != test.pointer {
				t.Errorf("want %s and %s, got %v", test.path, test.pointer, proxies)
			}
		})
	}
	var apps []string
	facts := Read(
		newPod(native, initContainer(corev1.Container{Name: "migrate"}), appContainer(corev1.Container{Name: "b"})),
		nil,
	)
	for i := range facts.apps {
		apps = append(apps, facts.apps[i].Path().String()+" "+facts.apps[i].Name)
	}
	wantEqual(t, "apps", apps, []string{
		"spec.initContainers[2] migrate",
		"spec.containers[0] app",
		"spec.containers[1] b",
	})
}
