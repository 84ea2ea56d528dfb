package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// read is what the status of a pod says. When err is set, it is not to be believed.
type read struct {
	key          groupKey
	originations []origination.Origination
	settings     origination.Settings
	admitted     *time.Time
	err          error
}

// readStatus parses the status of a pod and validates it again, for the pod's owners can edit it.
func readStatus(pod *Pod, cfg config.Config) read {
	status, err := origination.ParseStatus(pod.Recorded)
	if err != nil {
		return read{err: err}
	}
	r := read{originations: status.Originations, settings: status.Settings, admitted: status.FirstUse}
	r.err = believable(pod, status, cfg)
	if r.err != nil {
		return r
	}
	status.FirstUse = nil
	workload, revision := mesh.WorkloadOf(pod)
	r.key = groupKey{workload: workload, revision: revision, status: unique.Make(status.String())}
	return r
}

// believable checks the status, and that the pod's labels are those which admission wrote with it: else its
// sidecar would get other rules than the ones made for its claims.
func believable(pod *Pod, status origination.Status, cfg config.Config) error {
	if err := annotation.ValidateStatus(status, pod.Namespace, cfg); err != nil {
		return fmt.Errorf("%s: %w", origination.AnnotationStatus, err)
	}
	for i := range status.Originations {
		o := &status.Originations[i]
		if account := cmp.Or(pod.Spec.ServiceAccountName, origination.DefaultServiceAccount); o.TLS.ServiceAccount != "" && o.TLS.ServiceAccount != account {
			return fmt.Errorf("%s: host %q: the certificate is for service account %q, and the pod has %q", origination.AnnotationStatus, o.Host, o.TLS.ServiceAccount, account)
		}
	}
	wanted, found := status.Labels(), origination.OurLabels(pod.Labels)
	if !maps.Equal(found, wanted) {
		return fmt.Errorf("the labels %s are not those that %s asks for, %s",
			names(found), origination.AnnotationStatus, names(wanted))
	}
	return nil
}

func names(labels map[string]string) string {
	if len(labels) == 0 {
		return "(none)"
	}
	return strings.Join(slices.Sorted(maps.Keys(labels)), ", ")
}

// sameClaim reports whether two states of a pod make the same claim, so that nothing is parsed again.
func sameClaim(a, b *Pod) bool {
	return a.Recorded == b.Recorded && maps.Equal(a.Labels, b.Labels)
}

// finished reports whether the containers of a pod will never run again. A pod that is being deleted
// may still send, so it counts until it is gone.
func finished(pod *Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func gated(pod *Pod) bool {
	return slices.ContainsFunc(pod.Spec.SchedulingGates, func(gate corev1.PodSchedulingGate) bool {
		return gate.Name == origination.GateFirstUse
	})
}

// Admitted is what the live pods of a namespace were admitted with.
type Admitted struct {
	// Claims are sorted, the oldest first.
	Claims []mesh.Claim
	// Servers are the names of the pods that are Redis servers in the mesh, sorted.
	Servers []string
}

// AdmittedOf returns what pods of one namespace that were listed rather than watched were admitted with, and those
// with a status that cannot be believed. Finished pods count for nothing.
func AdmittedOf(pods []*Pod, cfg config.Config) (Admitted, []Rejected) {
	l := newLedger(cfg)
	namespace := ""
	for _, pod := range pods {
		l.set(pod)
		namespace = pod.Namespace
	}
	return l.admittedTo(namespace), l.rejected(namespace)
}

// Held are the names of objects that live pods may be using. It is wider than what they claim: a pod
// whose status is no longer believed (a narrowed policy, a newer format) keeps what it runs on.
type Held struct {
	names  map[string]bool
	labels map[string]bool
	// Unread says that the status of some pod could not even be read: what it names is not known.
	Unread bool
}

// Hold gathers what claims and rejected pods may be using.
func Hold(claims []mesh.Claim, rejected []Rejected) Held {
	h := Held{names: map[string]bool{}, labels: map[string]bool{}}
	for i := range claims {
		h.add(&claims[i].Origination)
	}
	for _, r := range rejected {
		for label := range origination.OurLabels(r.Pod.Labels) {
			h.labels[label] = true
			switch {
			case label == origination.LabelServer:
				h.names[origination.ServerName] = true
			case strings.HasPrefix(label, origination.LabelEgressPrefix):
				h.names[origination.EgressNameOf(label)] = true
			}
		}
		h.Unread = h.Unread || len(r.Originations) == 0
		for i := range r.Originations {
			h.add(&r.Originations[i])
		}
	}
	return h
}

func (h Held) add(o *origination.Origination) {
	h.names[o.EntryName()] = true
	h.names[o.RuleName()] = true
	h.names[o.CertificateName()] = true // no object's, where there is no issuer
}

// Name reports whether the object of that name is in use.
func (h Held) Name(name string) bool { return h.names[name] }

// Selects reports whether a rule's workloadSelector selects a live pod.
func (h Held) Selects(matchLabels map[string]string) bool {
	for key := range matchLabels {
		if h.labels[key] {
			return true
		}
	}
	return false
}
