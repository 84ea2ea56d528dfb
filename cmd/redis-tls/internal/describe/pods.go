package describe

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/live"
	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// The values of Pod.TLS.
const (
	tlsCurrent = "current"
	tlsOlder   = "older"
	tlsInvalid = "invalid"
	tlsNone    = "none"
	tlsUnknown = "unknown"
)

// pods adds the pods of the workload to the item, and returns what they were admitted with. Finished pods need nothing.
func (r *run) pods(
	item *Item, w *live.Workload, decision inject.Decision, settings []annotation.Setting,
) (admitted []mesh.Request) {
	wanted := origination.Labels(decision.Originations, decision.Settings)
	for _, pod := range w.Pods {
		p := Pod{
			Name:     pod.Name,
			Phase:    string(pod.Status.Phase),
			Sidecar:  hasSidecar(pod),
			FirstUse: pod.Annotations[origination.AnnotationFirstUse],
			Labels:   origination.WebhookLabels(pod.Labels),
			Gated: slices.ContainsFunc(pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool {
				return g.Name == origination.GateFirstUse
			}),
		}
		if status, err := origination.ParseStatus(pod.Annotations[origination.AnnotationStatus]); err == nil {
			p.Request = status.Request
		}
		p.setVIPs(pod)
		request, found, err := r.Cluster.Recorded(pod)
		switch {
		case err != nil:
			p.TLS, p.Detail = tlsInvalid, err.Error()
		case !found && (pod.Labels[origination.LabelInjected] != "true" || p.Request == nil):
			p.TLS = tlsNone
			if decision.Reason == origination.ReasonInjected {
				p.Detail = "was admitted without TLS; recreate it"
			}
		case decision.Reason != origination.ReasonInjected:
			p.TLS, p.Detail = tlsOlder, "keeps what it was admitted with; a new pod would be "+string(decision.Outcome())
		case maps.Equal(p.Labels, wanted) && !p.hasVIPs(decision):
			p.TLS, p.Detail = tlsOlder, "its VIPs are not those of its key any more; recreate it"
		case maps.Equal(p.Labels, wanted):
			p.TLS = tlsCurrent
		default:
			p.TLS, p.Detail = tlsOlder, difference(p.Request, settings)
		}
		if r.assumes(w.Namespace) && (p.TLS == tlsOlder || p.TLS == tlsInvalid) {
			p.TLS, p.Detail = tlsUnknown, "your rights do not show what a new pod gets"
		}
		if p.TLS != tlsNone && !p.Sidecar {
			p.Detail = strings.TrimPrefix(p.Detail+"; it has no container istio-proxy, so its connections fail", "; ")
		}
		if found && err == nil {
			admitted = append(admitted, request)
		}
		item.Pods = append(item.Pods, p)
	}
	return admitted
}

func (p *Pod) setVIPs(pod *corev1.Pod) {
	vips, err := origination.ParseVIPs(pod.Annotations[origination.AnnotationVIPs])
	if err != nil || len(vips) == 0 {
		return
	}
	p.VIPs = map[string][]string{}
	for name, addresses := range vips {
		for _, address := range addresses {
			p.VIPs[name] = append(p.VIPs[name], address.String())
		}
	}
}

// hasVIPs reports whether the pod was admitted with the VIPs that a new pod gets.
func (p *Pod) hasVIPs(decision inject.Decision) bool {
	for i := range decision.Originations {
		for _, name := range decision.Originations[i].Names() {
			if !slices.EqualFunc(p.VIPs[name.Host], name.VIPs, func(text string, vip netip.Addr) bool {
				return text == vip.String()
			}) {
				return false
			}
		}
	}
	return true
}

// hasSidecar reports whether the pod has Istio's sidecar, as a container or as a native sidecar.
func hasSidecar(pod *corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers), func(c corev1.Container) bool {
		return c.Name == "istio-proxy"
	})
}

// difference says which keys of a request are not those in effect for a new pod.
func difference(request map[string]string, settings []annotation.Setting) string {
	now := map[string]string{}
	for _, s := range settings {
		if s.Value != "" {
			now[s.Key] = s.Value
		}
	}
	all := maps.Clone(now)
	maps.Copy(all, request)
	var texts []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		old, had := request[key]
		value, has := now[key]
		switch {
		case had && !has:
			texts = append(texts, fmt.Sprintf("%s is %q, now it is not set", key, old))
		case has && !had:
			texts = append(texts, fmt.Sprintf("%s is not set, now it is %q", key, value))
		case old != value:
			texts = append(texts, fmt.Sprintf("%s is %q, now it is %q", key, old, value))
		}
	}
	if len(texts) == 0 {
		return "the Helm values or the Services have changed"
	}
	return strings.Join(texts, "; ")
}
