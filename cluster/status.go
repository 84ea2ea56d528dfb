package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/mesh"
	"github.com/redis-tls/redis-tls/origination"
)

// read is what the status of a pod says. When err is set, it is not to be believed.
type read struct {
	key          groupKey
	originations []origination.Origination
	admitted     *time.Time
	err          error
}

// readStatus parses the status of a pod and validates it again, for the pod's owners can edit it.
func readStatus(pod *corev1.Pod, cfg origination.Config) read {
	status, err := origination.ParseStatus(pod.Annotations[origination.AnnotationStatus])
	if err != nil {
		return read{err: err}
	}
	r := read{originations: status.Originations, admitted: status.FirstUse}
	r.err = believable(pod, status.Originations, cfg)
	if r.err != nil {
		return r
	}
	status.FirstUse = nil
	workload, revision := mesh.WorkloadOf(pod)
	r.key = groupKey{workload: workload, revision: revision, originations: status.String()}
	return r
}

// believable checks each origination, and that the pod's labels are those which admission wrote with
// the status: else its sidecar would get other rules than the ones made for its claims.
func believable(pod *corev1.Pod, originations []origination.Origination, cfg origination.Config) error {
	if len(originations) == 0 {
		return fmt.Errorf("%s names no origination", origination.AnnotationStatus)
	}
	hosts := map[string]bool{}
	wanted := map[string]bool{}
	for i := range originations {
		o := &originations[i]
		if err := o.Validate(pod.Namespace, cfg); err != nil {
			return fmt.Errorf("%s: host %q: %w", origination.AnnotationStatus, o.Host, err)
		}
		if hosts[o.Host] {
			return fmt.Errorf("%s: host %q twice", origination.AnnotationStatus, o.Host)
		}
		if account := cmp.Or(pod.Spec.ServiceAccountName, origination.DefaultServiceAccount); o.TLS.ServiceAccount != "" && o.TLS.ServiceAccount != account {
			return fmt.Errorf("%s: host %q: the certificate is for service account %q, and the pod has %q", origination.AnnotationStatus, o.Host, o.TLS.ServiceAccount, account)
		}
		hosts[o.Host] = true
		wanted[o.RuleLabel()] = true
	}
	if found := ruleLabels(pod); !maps.Equal(found, wanted) {
		return fmt.Errorf("the labels %s are not those that %s asks for, %s",
			names(found), origination.AnnotationStatus, names(wanted))
	}
	return nil
}

// ruleLabels are the labels of a pod that select it for DestinationRules of ours.
func ruleLabels(pod *corev1.Pod) map[string]bool {
	found := map[string]bool{}
	for key, value := range pod.Labels {
		if strings.HasPrefix(key, origination.LabelRulePrefix) {
			found[key] = value == "true"
		}
	}
	return found
}

func names(set map[string]bool) string {
	if len(set) == 0 {
		return "(none)"
	}
	return strings.Join(slices.Sorted(maps.Keys(set)), ", ")
}

// sameClaim reports whether two states of a pod make the same claim, so that nothing is parsed again.
func sameClaim(a, b *corev1.Pod) bool {
	return a.Annotations[origination.AnnotationStatus] == b.Annotations[origination.AnnotationStatus] &&
		maps.Equal(a.Labels, b.Labels)
}

// finished reports whether the containers of a pod will never run again. A pod that is being deleted
// may still send, so it counts until it is gone.
func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func gated(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.SchedulingGates, func(gate corev1.PodSchedulingGate) bool {
		return gate.Name == origination.GateFirstUse
	})
}

// ClaimsOf returns the claims of pods that were listed rather than watched, and the pods with a status
// that cannot be believed. Finished pods claim nothing.
func ClaimsOf(pods []*corev1.Pod, cfg origination.Config) ([]mesh.Claim, []Rejected) {
	l := newLedger(cfg)
	namespaces := map[string]bool{}
	for _, pod := range pods {
		l.set(pod)
		namespaces[pod.Namespace] = true
	}
	var claims []mesh.Claim
	var rejected []Rejected
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		claims = append(claims, l.claimsOf(namespace)...)
		rejected = append(rejected, l.rejected(namespace)...)
	}
	return claims, rejected
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
		maps.Copy(h.labels, ruleLabels(r.Pod))
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
