// Package inject is the one core that decides about a pod. The webhook's handler and the offline
// preview `redis-tls inject` both call [Injector.Inject], so what the preview prints is what the cluster does.
//
// The package is pure: a [View] of the cluster and a clock are passed in.
package inject

import (
	"net/netip"
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

// View is what a decision may know of the cluster: informer caches in the webhook, files in the preview.
type View interface {
	annotation.Services
	// Namespace returns the labels and annotations of a namespace, and whether it is known.
	Namespace(name string) (labels, annotations map[string]string, ok bool)
	// Snapshot returns the live requests and the mesh objects of the namespace, and what is exported to it.
	Snapshot(namespace string) *mesh.Snapshot
}

// Injector decides about pods. It is safe for concurrent use when its View is.
type Injector struct {
	Config config.Config
	View   View
	Now    func() time.Time
	// Offline is set in the preview: what its input does not describe may exist all the same, so no Service is looked
	// up, no object counts as accepted long enough ago, and no time of first use is recorded.
	Offline bool
}

// Decision is what becomes of a pod.
type Decision struct {
	// Reason is the one reason of the decision; of several problems the weightiest (see weight).
	Reason  origination.Reason
	Allowed bool
	// Operations turn the pod into what it should be; none when it is that already, or stays untouched.
	Operations []jsonpatch.Operation
	// Warnings are for the user, one sentence each. For a pod that is admitted in spite of its
	// problems they tell each of them.
	Warnings []string
	// Problems are all that is wrong, in the order of the pipeline.
	Problems []origination.Problem
	// Originations are what the pod was injected with, VIPs included.
	Originations []origination.Origination
	// Settings are what it was injected with as a whole.
	Settings origination.Settings
}

// Inject decides about a pod that is to be created in the namespace. The pod is only read. What only the webhook
// writes is taken from a pod that is admitted without originations.
func (i *Injector) Inject(namespace string, pod *corev1.Pod) Decision {
	d := i.decide(namespace, pod)
	if d.Allowed && d.Reason != origination.ReasonInjected {
		d.Operations = patches.Strip(pod)
	}
	return d
}

func (i *Injector) decide(namespace string, pod *corev1.Pod) Decision {
	labels, annotations, ok := i.View.Namespace(namespace)
	if !ok {
		return i.verdict(true, []origination.Problem{unknownNamespace(namespace)}, nil)
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
	}, i.Config, i.services())
	warnings := resolved.Warnings
	switch {
	case resolved.Skip != "":
		return Decision{Reason: resolved.Skip, Allowed: true, Warnings: warnings}
	case len(resolved.Errors)+len(resolved.Place)+len(resolved.Originations) == 0 && resolved.Settings == (origination.Settings{}):
		return Decision{Reason: origination.ReasonNotRequested, Allowed: true, Warnings: warnings}
	}

	problems := append(written(resolved.Errors), resolved.Place...)
	os := resolved.Originations
	facts := sidecar.Read(pod, labels)
	inPod, more := facts.Check(os)
	problems = append(problems, inPod...)
	if resolved.Settings.Server != "" {
		inPod, told := facts.CheckServer()
		problems, more = append(problems, inPod...), append(more, told...)
	}
	if !resolved.Asked && facts.Expected == sidecar.Unknown {
		return i.verdict(false, append(problems, noSidecarAsked(namespace)), warnings)
	}
	warnings = append(warnings, more...)
	if len(problems) > 0 && (len(os) == 0 || !resolved.Asked) {
		return i.verdict(resolved.Asked, problems, warnings)
	}

	os, absent, inMesh, more := i.meet(pod, os, resolved.Settings, snapshot())
	problems, warnings = append(problems, inMesh...), append(warnings, more...)
	operations, more, inPod := patches.For(facts, os, i.options(absent, &resolved))
	problems, warnings = append(problems, inPod...), append(warnings, more...)
	if len(problems) > 0 {
		return i.verdict(resolved.Asked, problems, warnings)
	}
	return Decision{
		Reason: origination.ReasonInjected, Allowed: true,
		Operations: operations, Warnings: warnings, Originations: os, Settings: resolved.Settings,
	}
}

// missing says whether an object is not there yet, and whether one is without which the pod must not start.
type missing struct{ any, gated bool }

// meet validates originations and settings against the snapshot, and draws the VIPs. It returns copies, save of those
// that no VIP could be drawn for.
func (i *Injector) meet(pod *corev1.Pod, requested []origination.Origination, settings origination.Settings, snap *mesh.Snapshot) (
	os []origination.Origination, absent missing, problems []origination.Problem, warnings []string,
) {
	podLabels := labelsOf(pod, requested, settings, snap)
	problems, warnings = mesh.CheckSettings(settings, podLabels, snap)
	if problem := mesh.CheckKeys(requested, snap, i.Config.Policy.MaxKeysPerNamespace); problem != nil {
		problems = append(problems, *problem)
	}
	settle := i.Config.FirstUse.Delay.Duration
	for n := range requested {
		o := requested[n]
		vips, noVIP := mesh.VIPs(&o, patches.Aliases(pod, o.Host), os, snap, i.Config.VIP)
		o.VIPs = vips
		more, told := mesh.Check(&o, podLabels, snap)
		problems, warnings = append(problems, more...), append(warnings, told...)
		if _, name := mesh.CertificateOf(&o); name != "" {
			if trouble, _ := mesh.CertificateTrouble(&o, snap.Certificate(name), snap, i.now()); trouble != "" {
				warnings = append(warnings, trouble)
			}
		}
		if noVIP != nil {
			problems = append(problems, *noVIP)
			continue
		}
		if mesh.Missing(&o, snap, i.now(), settle) {
			absent.any = true
			absent.gated = absent.gated || o.Gated()
		}
		os = append(os, o)
	}
	if len(mesh.MissingSettings(settings, requested, snap, i.now(), settle)) > 0 {
		absent = missing{any: true, gated: true}
	}
	return os, absent, problems, warnings
}

// labelsOf returns the labels that the pod will have, which a user's Sidecar or PeerAuthentication may select
// by. Without one nobody reads ours.
func labelsOf(pod *corev1.Pod, os []origination.Origination, settings origination.Settings, snap *mesh.Snapshot) map[string]string {
	if len(snap.Sidecars)+len(snap.Peers) == 0 {
		return pod.Labels
	}
	labels, stale := origination.Labels(os, settings), origination.OurLabels(pod.Labels)
	for key, value := range pod.Labels {
		if _, ours := stale[key]; !ours {
			labels[key] = value
		}
	}
	return labels
}

// services are those that the decision may ask about; nil in the offline preview.
func (i *Injector) services() annotation.Services {
	if i.Offline {
		return nil
	}
	return i.View
}

// now returns the zero time in the offline preview: no object counts as accepted long enough ago then.
func (i *Injector) now() time.Time {
	if i.Offline {
		return time.Time{}
	}
	return i.Now()
}

// options are those of the patch. That an earlier invocation's time of first use stays is seen to there.
func (i *Injector) options(absent missing, resolved *annotation.Result) patches.Options {
	o := patches.Options{
		Settings: resolved.Settings, Status: resolved.Status, VIPRanges: vipRanges(i.Config.VIP),
		Gate: i.Config.FirstUse.Gate && absent.gated,
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

// noSidecarAsked keeps an inherited request from a pod that nobody wants a sidecar for. One that requests itself goes
// on with a warning instead: the mesh may inject by default, and the guard refuses it if it does not. But
// a pod that only inherits must not end up with a VIP and no sidecar behind it.
func noSidecarAsked(namespace string) origination.Problem {
	return origination.Problem{Reason: origination.ReasonNoSidecar, Err: field.Invalid(
		field.NewPath("namespace", "metadata", "labels").Key("istio-injection"), "",
		"nobody asks Istio for a sidecar here, so nothing would originate TLS; label namespace "+namespace+
			" istio-injection=enabled (or istio.io/rev), or the pod sidecar.istio.io/inject=\"true\"")}
}

func unknownNamespace(namespace string) origination.Problem {
	return origination.Problem{Reason: origination.ReasonNamespaceNotCached, Err: field.Invalid(
		field.NewPath("metadata", "namespace"), namespace,
		"the webhook's cache does not know the namespace yet, so neither its defaults; try again")}
}
