// Package inject is the one core that decides about a pod. The webhook's handler and the offline
// preview `redis-tls inject` both call it, so what the preview prints is what the cluster does.
//
// In go a pod, the name of its namespace and a View of the cluster; out comes a Decision: whether the
// pod is admitted, with which patch operations, and what the user is told. The package is pure: the
// View is an interface over caches and the clock is passed in. It must never import a client, cluster,
// webhook or controller.
package inject

import (
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

// View is what a decision may know of the cluster: informer caches in the webhook, files in the preview.
type View interface {
	annotation.Services
	// Namespace returns the labels and annotations of a namespace, and whether it is known.
	Namespace(name string) (labels, annotations map[string]string, ok bool)
	// Surroundings returns the mesh objects that concern the namespace.
	Surroundings(namespace string) mesh.Surroundings
	// Claims returns what the namespace's live pods were admitted with.
	Claims(namespace string) []mesh.Claim
}

// Injector decides about pods. It is safe for concurrent use when its View is.
type Injector struct {
	Config config.Config
	View   View
	// Now is the clock; nil in the offline preview, which then records no time of first use and looks no
	// Service up: what its input does not describe may exist all the same.
	Now func() time.Time
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
	// Originations are what the pod was injected with, pins included.
	Originations []origination.Origination
	// Settings are what it was injected with as a whole.
	Settings origination.Settings
}

// Inject decides about a pod that is to be created in the namespace. The pod is only read.
func (i *Injector) Inject(namespace string, pod *corev1.Pod) Decision {
	labels, annotations, ok := i.View.Namespace(namespace)
	if !ok {
		return i.verdict(true, []origination.Problem{unknownNamespace(namespace)}, nil)
	}
	resolved := annotation.Resolve(annotation.Input{
		Namespace:            namespace,
		NamespaceLabels:      labels,
		NamespaceAnnotations: annotations,
		Labels:               pod.Labels,
		Annotations:          pod.Annotations,
		ServiceAccount:       pod.Spec.ServiceAccountName,
		SecretOfCertificate:  func(name string) string { return i.View.Surroundings(namespace).SecretOfCertificate(name) },
	}, i.Config, i.services())
	warnings := resolved.Warnings
	switch {
	case resolved.Skip != "":
		return Decision{Reason: resolved.Skip, Allowed: true, Warnings: warnings}
	case len(resolved.Errors)+len(resolved.Place)+len(resolved.Originations) == 0 && resolved.Settings == (origination.Settings{}):
		return Decision{Reason: origination.ReasonNotAsked, Allowed: true, Warnings: warnings}
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

	os, absent, inMesh, more := i.meet(namespace, pod, os, resolved.Settings)
	problems, warnings = append(problems, inMesh...), append(warnings, more...)
	operations, more, inPod := patches.For(facts, os, i.options(absent, resolved.Settings))
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

// meet holds originations and settings against the namespace's other claims and its mesh objects, and draws
// the pins. It returns copies, save of those that no pin could be drawn for.
func (i *Injector) meet(namespace string, pod *corev1.Pod, wished []origination.Origination, settings origination.Settings) (
	os []origination.Origination, absent missing, problems []origination.Problem, warnings []string,
) {
	claims, around := i.View.Claims(namespace), i.View.Surroundings(namespace)
	workload, revision := mesh.WorkloadOf(pod)
	podLabels := labelsOf(pod, origination.Status{Originations: wished, Settings: settings}, around)
	problems, warnings = mesh.CheckSettings(settings, podLabels, around)
	taken := claims // grows by this pod's own pins: its hosts must not share an address
	for n, o := range wished {
		var unpinnable *origination.Problem
		if o.Pinnable() {
			o.Pin, unpinnable = mesh.Pin(o, patches.Pinned(pod, o.Host), taken, around, i.Config.VIP)
			if n < len(wished)-1 {
				taken = append(slices.Clip(taken), mesh.Claim{Workload: workload, Revision: revision, Pod: pod.Name, Origination: o})
			}
		}
		more, told := mesh.Check(o, workload, podLabels, claims, around)
		problems, warnings = append(problems, more...), append(warnings, told...)
		if trouble, _ := mesh.CertificateTrouble(o, around, i.now()); trouble != "" {
			warnings = append(warnings, trouble)
		}
		if unpinnable != nil {
			problems = append(problems, *unpinnable)
			continue
		}
		if mesh.Missing(o, around, i.now(), i.Config.FirstUse.Settle.Duration) {
			absent.any = true
			absent.gated = absent.gated || o.Gated()
		}
		os = append(os, o)
	}
	if len(mesh.MissingSettings(settings, wished, around, i.now(), i.Config.FirstUse.Settle.Duration)) > 0 {
		absent = missing{any: true, gated: true}
	}
	return os, absent, problems, warnings
}

// labelsOf returns the labels that the pod will have, which a user's Sidecar or PeerAuthentication may select
// by. Without one nobody reads ours.
func labelsOf(pod *corev1.Pod, status origination.Status, around mesh.Surroundings) map[string]string {
	if len(around.Sidecars)+len(around.Peers) == 0 {
		return pod.Labels
	}
	labels, stale := status.Labels(), origination.OurLabels(pod.Labels)
	for key, value := range pod.Labels {
		if _, ours := stale[key]; !ours {
			labels[key] = value
		}
	}
	return labels
}

// services are those that the decision may ask about; nil in the offline preview.
func (i *Injector) services() annotation.Services {
	if i.Now == nil {
		return nil
	}
	return i.View
}

// now returns the zero time in the offline preview: no object counts as accepted long enough ago then.
func (i *Injector) now() time.Time {
	if i.Now == nil {
		return time.Time{}
	}
	return i.Now()
}

// options are those of the patch. That an earlier invocation's time of first use stays is seen to there.
func (i *Injector) options(absent missing, settings origination.Settings) patches.Options {
	o := patches.Options{Settings: settings, Gate: i.Config.FirstUse.Gate && absent.gated}
	if absent.any && i.Now != nil {
		now := i.Now().UTC().Round(0)
		o.FirstUse = &now
	}
	return o
}

// noSidecarAsked keeps an inherited wish from a pod that nobody wants a sidecar for. One that asks goes
// on with a warning instead: the mesh may inject by default, and the guard refuses it if it does not. But
// a pod that only inherits must not end up pinned with nobody behind the pin.
func noSidecarAsked(namespace string) origination.Problem {
	return origination.Problem{Reason: origination.ReasonNoSidecar, Err: field.Invalid(
		field.NewPath("namespace", "metadata", "labels").Key("istio-injection"), "",
		"nobody asks Istio for a sidecar here, so nothing would originate TLS; label namespace "+namespace+
			" istio-injection=enabled (or istio.io/rev), or the pod sidecar.istio.io/inject=\"true\"")}
}

func unknownNamespace(namespace string) origination.Problem {
	return origination.Problem{Reason: origination.ReasonNamespaceUnknown, Err: field.Invalid(
		field.NewPath("metadata", "namespace"), namespace,
		"the webhook's cache does not know the namespace yet, so neither its defaults; try again")}
}
