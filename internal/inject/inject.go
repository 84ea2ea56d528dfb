// Package inject decides whether a pod gets TLS, and how it is patched. The webhook's handler and the offline preview
// `redis-tls inject` both call [Injector.Inject], so the preview prints what the cluster does.
//
// The package is pure: a [View] of the cluster and a clock are passed in. [Decision.Message] is the text for the user.
package inject

import (
	"net/netip"
	"slices"
	"time"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/internal/sidecar"
	"github.com/redis-tls/redis-tls/patches"
)

// View is the state of the cluster that a decision reads: informer caches in the webhook, files in the preview.
type View interface {
	annotation.Services
	// Namespace returns the labels and annotations of a namespace, and whether the view has it.
	Namespace(name string) (labels, annotations map[string]string, ok bool)
	// Snapshot returns the live requests and the mesh objects of the namespace, and the objects exported to it.
	Snapshot(namespace string) *mesh.Snapshot
}

// Injector decides about pods. It is safe for concurrent use if its View is.
type Injector struct {
	Config config.Config
	View   View
	Now    func() time.Time
	// Offline is set in the preview, whose input is not the whole cluster. Then a Service that the View does not have may
	// exist, no object counts as accepted, and no time of first use is written.
	Offline bool
	// Partial is set if the View may lack Services that exist, because its reader may not list all. Offline includes it.
	Partial bool
}

// Decision is the result of [Injector.Inject].
type Decision struct {
	// Reason is the reason of the decision. If there are several problems, it is the first of them in precedence.
	Reason  origination.Reason
	Allowed bool
	// Operations are the JSON patch. It is empty if the pod needs no change.
	Operations []jsonpatch.Operation
	// Warnings are for the user, one sentence each. If a pod with problems is admitted, each problem is a warning.
	Warnings []string
	// Problems are all problems, in the order of the checks.
	Problems []origination.Problem
	// Originations are those of an injected pod, with their VIPs.
	Originations []origination.Origination
	// Settings are the settings of an injected pod as a whole.
	Settings origination.Settings
}

// Inject decides about a pod that is created in the namespace. It only reads the pod. If the pod is admitted and not
// injected, the patch removes labels and annotations that only the webhook may write.
func (i *Injector) Inject(namespace string, pod *corev1.Pod) Decision {
	d := i.decide(namespace, pod)
	if d.Allowed && d.Reason != origination.ReasonInjected {
		d.Operations = patches.Strip(pod)
	}
	return d
}

// Policy returns the policy that applies to a namespace.
func (i *Injector) Policy(namespace string) config.Policy {
	labels, _, _ := i.View.Namespace(namespace)
	return i.Config.For(namespace, labels).Policy
}

func (i *Injector) decide(namespace string, pod *corev1.Pod) Decision {
	labels, annotations, ok := i.View.Namespace(namespace)
	cfg := i.Config.For(namespace, labels)
	if !ok {
		return refuseOrTolerate(cfg.Policy, true, []origination.Problem{namespaceNotCached(namespace)}, nil)
	}
	var snap *mesh.Snapshot
	snapshot := func() *mesh.Snapshot {
		if snap == nil {
			snap = i.View.Snapshot(namespace)
		}
		return snap
	}
	resolved := annotation.Resolve(annotation.Input{
		Namespace:            namespace,
		NamespaceLabels:      labels,
		NamespaceAnnotations: annotations,
		Labels:               pod.Labels,
		Annotations:          pod.Annotations,
		ServiceAccount:       pod.Spec.ServiceAccountName,
		SecretOfCertificate:  func(name string) string { return snapshot().SecretOfCertificate(name) },
		Partial:              i.Offline || i.Partial,
	}, cfg, i.View)
	warnings := resolved.Warnings
	switch {
	case resolved.Skip != "":
		return Decision{Reason: resolved.Skip, Allowed: true, Warnings: warnings}
	case len(resolved.Errors)+len(resolved.NamespaceProblems)+len(resolved.Originations) == 0 &&
		resolved.Settings == (origination.Settings{}):
		return Decision{Reason: origination.ReasonNotRequested, Allowed: true, Warnings: warnings}
	}

	problems := append(annotationProblems(resolved.Errors), resolved.NamespaceProblems...)
	originations, drafts := resolved.Originations, len(resolved.Errors) > 0
	if drafts {
		originations = resolved.Drafts
	}
	facts := sidecar.Read(pod, labels)
	podProblems, podWarnings := facts.Check(originations)
	problems = append(problems, podProblems...)
	if resolved.Settings.Server != "" {
		serverProblems, serverWarnings := facts.CheckServer()
		problems, podWarnings = append(problems, serverProblems...), append(podWarnings, serverWarnings...)
	}
	if !resolved.Requested && facts.Expected == sidecar.Unknown {
		return refuseOrTolerate(cfg.Policy, false, append(problems, noSidecarRequested(namespace)), warnings)
	}
	warnings = append(warnings, podWarnings...)
	if len(problems) > 0 && (len(originations) == 0 || !resolved.Requested) {
		return refuseOrTolerate(cfg.Policy, resolved.Requested, problems, warnings)
	}

	if limit := mesh.CheckKeys(originations, snapshot(), cfg.Policy); limit != nil && !drafts {
		problems = append(problems, *limit)
	}
	originations, absent, meshProblems, meshWarnings := i.checkMesh(pod, originations, resolved.Settings, snapshot())
	operations, patchWarnings, patchProblems := patches.For(facts, originations, i.options(absent, &resolved))
	problems = slices.Concat(problems, meshProblems, patchProblems)
	if !drafts { // the warnings are about certificates and objects that a draft may not have
		warnings = slices.Concat(warnings, meshWarnings, patchWarnings)
	}
	if len(problems) > 0 {
		return refuseOrTolerate(cfg.Policy, resolved.Requested, problems, warnings)
	}
	return Decision{
		Reason:       origination.ReasonInjected,
		Allowed:      true,
		Operations:   operations,
		Warnings:     warnings,
		Originations: originations,
		Settings:     resolved.Settings,
	}
}

// missing says whether an object does not exist yet, and whether the pod must not start without it.
type missing struct{ any, gated bool }

// checkMesh validates originations and settings against the snapshot, and draws the VIPs. The returned originations are
// copies. Those without a free VIP are left out.
func (i *Injector) checkMesh(
	pod *corev1.Pod, requested []origination.Origination, settings origination.Settings, snap *mesh.Snapshot,
) (originations []origination.Origination, absent missing, problems []origination.Problem, warnings []string) {
	podLabels := labelsOf(pod, requested, settings, snap)
	problems, warnings = mesh.CheckSettings(settings, podLabels, snap)
	delay := i.Config.FirstUse.Delay.Duration
	for n := range requested {
		o := requested[n]
		already := func(host string) []netip.Addr { return patches.Aliases(pod, host) }
		noVIP := mesh.DrawVIPs(&o, already, originations, snap, i.Config.VIP)
		meshProblems, meshWarnings := mesh.Check(&o, podLabels, snap)
		problems, warnings = append(problems, meshProblems...), append(warnings, meshWarnings...)
		if _, name := mesh.CertificateOf(&o); name != "" {
			if trouble, _ := mesh.CertificateWarning(&o, snap.Certificate(name), snap, i.now()); trouble != "" {
				warnings = append(warnings, trouble)
			}
		}
		if noVIP != nil {
			problems = append(problems, *noVIP)
			continue
		}
		switch {
		case o.Gated():
			waits := mesh.Missing(&o, snap, i.now(), delay)
			absent.any, absent.gated = absent.any || waits, absent.gated || waits
		case !mesh.HasEntry(&o, snap):
			absent.any = true
		}
		originations = append(originations, o)
	}
	if len(mesh.MissingSettings(settings, requested, snap, i.now(), delay)) > 0 {
		absent = missing{any: true, gated: true}
	}
	if mesh.Unacknowledged(settings, requested, snap, i.Config.FirstUse) {
		absent.gated = true
	}
	return originations, absent, problems, warnings
}

// labelsOf returns the labels that the pod will have, by which a user's Sidecar or PeerAuthentication may select it. If
// the snapshot has neither, the pod's own labels suffice.
func labelsOf(
	pod *corev1.Pod, originations []origination.Origination, settings origination.Settings, snap *mesh.Snapshot,
) map[string]string {
	if len(snap.Sidecars)+len(snap.Peers) == 0 {
		return pod.Labels
	}
	labels, stale := origination.Labels(originations, settings), origination.WebhookLabels(pod.Labels)
	for key, value := range pod.Labels {
		if _, managed := stale[key]; !managed {
			labels[key] = value
		}
	}
	return labels
}

// now returns the zero time in the offline preview, so no object counts as accepted there.
func (i *Injector) now() time.Time {
	if i.Offline {
		return time.Time{}
	}
	return i.Now()
}

// options returns the options of the patch. Package patches keeps the time of first use of an earlier call.
func (i *Injector) options(absent missing, resolved *annotation.Result) patches.Options {
	o := patches.Options{
		Settings:  resolved.Settings,
		Status:    resolved.Status,
		VIPRanges: vipRanges(i.Config.VIP),
		Gate:      i.Config.FirstUse.Gate && absent.gated,
	}
	if absent.any && !i.Offline {
		now := i.Now().UTC().Round(0)
		o.FirstUse = &now
	}
	return o
}

func vipRanges(vip config.VIP) []netip.Prefix {
	ranges := make([]netip.Prefix, 0, 2)
	if vip.CIDR.IsValid() {
		ranges = append(ranges, vip.CIDR)
	}
	if vip.IPv6CIDR != nil {
		ranges = append(ranges, *vip.IPv6CIDR)
	}
	return ranges
}

// noSidecarRequested returns the problem of an inherited request in a namespace without Istio injection. The pod is
// admitted without TLS, because a VIP without a sidecar reaches no server. A pod that requests TLS itself gets only a
// warning: the mesh may inject by default, and the guard refuses the pod if it does not.
func noSidecarRequested(namespace string) origination.Problem {
	return origination.Problem{Reason: origination.ReasonNoSidecar, Err: field.Invalid(
		field.NewPath("namespace", "metadata", "labels").Key("istio-injection"), "",
		"Istio sidecar injection is not enabled. Label namespace "+namespace+
			" istio-injection=enabled or istio.io/rev=REVISION, or label the pod sidecar.istio.io/inject: \"true\"")}
}

func namespaceNotCached(namespace string) origination.Problem {
	return origination.Problem{Reason: origination.ReasonNamespaceNotCached, Err: field.Invalid(
		field.NewPath("metadata", "namespace"), namespace,
		"is not in the webhook's cache yet, and neither are its defaults; retry")}
}
