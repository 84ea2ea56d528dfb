package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/patches"
)

var podChecks = []Check{
	{
		ID: "pod-admitted", Category: Workloads, Severity: Error,
		Title: "its pods were admitted by redis-tls, and have its labels and annotations",
		Why:   "A pod that redis-tls did not change dials the server in plaintext. Without its labels, no rule selects it.",
		Fix:   "`kubectl -n WORKLOAD_NAMESPACE rollout restart WORKLOAD`",
		Needs: []Source{sourcePodsOfWorkload},
		After: []string{"workload-pods"},
		run:   checkAdmitted,
	},
	{
		ID: "pod-current", Category: Workloads, Severity: Warning,
		Title: "its pods have the present annotations of the workload",
		Why:   "A running pod keeps what it was admitted with. Changed annotations and defaults apply to new pods only.",
		Fix:   "`kubectl -n WORKLOAD_NAMESPACE rollout restart WORKLOAD`",
		Needs: []Source{sourcePodsOfWorkload},
		After: []string{
			"pod-admitted", "workload-annotations", "workload-sidecar-expected", "workload-rivals",
		},
		run: checkCurrentRequest,
	},
	{
		ID: "pod-vips", Category: Workloads, Severity: Error,
		Title: "its pods resolve each host to its VIPs",
		Why:   "An app that resolves the real address of the server bypasses TLS.",
		Fix:   "Stop the webhook that changes `spec.hostAliases`: `kubectl get mutatingwebhookconfigurations`",
		Needs: []Source{sourcePodsOfWorkload},
		After: []string{"pod-admitted"},
		run:   checkVIPs,
	},
	{
		ID: "pod-started", Category: Workloads, Severity: Error,
		Title: "no pod of it waits for its objects",
		Why:   "A pod that dials an address waits at a scheduling gate until its objects exist.",
		Fix:   "`kubectl get events -A --field-selector reason=ApplyFailed`",
		Needs: []Source{sourcePodsOfWorkload},
		After: []string{"pod-admitted"},
		run:   checkGates,
	},
	{
		ID: "pod-sidecar", Category: Workloads, Severity: Error,
		Title: "its pods have a sidecar of Istio",
		Why:   "Without the sidecar, connections to a VIP fail, and connections to an address are plaintext.",
		Fix:   "`kubectl -n WORKLOAD_NAMESPACE rollout restart WORKLOAD`",
		Needs: []Source{sourcePodsOfWorkload},
		After: []string{"pod-admitted"},
		run:   checkSidecars,
	},
	{
		ID: "pod-sidecar-version", Category: Workloads, Severity: Warning,
		Title: "the sidecars of its pods are of Istio 1.24 or newer",
		Why:   "With `mode: mutual`, an older sidecar may present its own certificate instead of the requested one.",
		Fix:   "`kubectl -n WORKLOAD_NAMESPACE rollout restart WORKLOAD`",
		Needs: []Source{sourcePodsOfWorkload},
		After: []string{"pod-sidecar"},
		run:   checkSidecarVersions,
	},
}

func (p *Pod) text() string { return "Pod " + namespaced(p.Pod) }

func checkAdmitted(in *Input) Result {
	var found []string
	for i := range in.Workload.Running {
		p := &in.Workload.Running[i]
		switch {
		case !p.Admitted:
			found = append(found, fmt.Sprintf("%s: label %s: must be true", p.text(), origination.LabelInjected))
		case p.Err != nil:
			found = append(found, fmt.Sprintf("%s: %s: must be valid: %s", p.text(),
				origination.AnnotationStatus, strings.ReplaceAll(p.Err.Error(), "\n", " ")))
		}
	}
	return failed("", found...)
}

// checkCurrentRequest compares the keys of the template's decision. It has one decision for each template, and a pod
// may be of any.
func checkCurrentRequest(in *Input) Result {
	keys := func(originations []origination.Origination) []string {
		var keys []string
		for i := range originations {
			keys = append(keys, originations[i].Key)
		}
		slices.Sort(keys)
		return keys
	}
	var found []string
	for i := range in.Workload.Running {
		p := &in.Workload.Running[i]
		if !slices.ContainsFunc(in.Workload.Decisions, func(d Decision) bool {
			return slices.Equal(keys(d.Originations), keys(p.Request.Originations)) && d.Settings == p.Request.Settings
		}) {
			found = append(found, p.text()+": was admitted with other annotations: must be replaced")
		}
	}
	return failed("", found...)
}

func checkVIPs(in *Input) Result {
	var found []string
	for i := range in.Workload.Running {
		p := &in.Workload.Running[i]
		for j := range p.Request.Originations {
			for _, name := range p.Request.Originations[j].Names() {
				for _, host := range name.Dialled() {
					aliases := patches.Aliases(p.Pod, host)
					for _, vip := range name.VIPs {
						if !slices.Contains(aliases, vip) {
							found = append(found, fmt.Sprintf("%s: spec.hostAliases: %s must resolve to %s", p.text(), host, vip))
						}
					}
				}
			}
		}
	}
	return failed("", found...)
}

// gateGrace is the time that a pod may wait at its gate.
const gateGrace = 20 * time.Second

func checkGates(in *Input) Result {
	var found []string
	for i := range in.Workload.Running {
		p := &in.Workload.Running[i]
		if in.Now.Sub(p.CreationTimestamp.Time) < gateGrace {
			continue
		}
		if slices.ContainsFunc(p.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool {
			return g.Name == origination.GateFirstUse
		}) {
			found = append(found, fmt.Sprintf("%s: schedulingGates %s: must be removed within seconds",
				p.text(), origination.GateFirstUse))
		}
	}
	return failed("", found...)
}

// proxy returns the container of the sidecar, or nil.
func proxy(pod *corev1.Pod) *corev1.Container {
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			if containers[i].Name == proxyContainer {
				return &containers[i]
			}
		}
	}
	return nil
}

// proxyContainer is the name of Istio's sidecar.
const proxyContainer = "istio-proxy"

func checkSidecars(in *Input) Result {
	var found []string
	for i := range in.Workload.Running {
		p := &in.Workload.Running[i]
		if proxy(p.Pod) == nil {
			found = append(found, fmt.Sprintf("%s: container %s: must exist", p.text(), proxyContainer))
		}
	}
	return failed("", found...)
}

func checkSidecarVersions(in *Input) Result {
	var found, versions []string
	for i := range in.Workload.Running {
		p := &in.Workload.Running[i]
		v := versionOf(proxy(p.Pod).Image)
		switch {
		case v == nil:
		case v.LessThan(oldestIstio):
			found = append(found, fmt.Sprintf("%s: %s version %s: must be %s or newer", p.text(), proxyContainer, v,
				oldestIstio))
		case !slices.Contains(versions, v.String()):
			versions = append(versions, v.String())
		}
	}
	if len(found) > 0 {
		return failed("", found...)
	}
	return passed(strings.Join(versions, ", "))
}
