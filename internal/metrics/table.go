package metrics

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// What became of a write of a mesh object.
const (
	WriteCreated  = "created"  // there was none
	WriteUpdated  = "updated"  // another one is wanted
	WriteRepaired = "repaired" // somebody else had added to it
	WriteMarked   = "marked"   // for deletion: nobody uses it
	WriteUnmarked = "unmarked" // it is in use again
	WriteDeleted  = "deleted"
	WriteConflict = "conflict" // the object was no longer what our cache said; tried again at once
	WriteFailed   = "failed"   // the API server refused it; tried again with backoff
)

// The states of the claims of live pods.
const (
	ClaimServed  = "served"
	ClaimPending = "pending" // its objects do not stand: just asked for, or failing, or Istio's kinds are missing
	ClaimRefused = "refused" // for one of the reasons of redis_tls_problems
	ClaimIgnored = "ignored" // of a pod whose status is not believed; counted once for the pod
)

// The states of objects with our names.
const (
	ObjectUsed      = "used"      // a live pod uses it
	ObjectUnused    = "unused"    // none does, and the grace period runs
	ObjectMarked    = "marked"    // for deletion
	ObjectUnmanaged = "unmanaged" // wanted, and somebody else's stands in its place
)

// The certificates that the API server checks.
const (
	CertificateLeaf = "leaf" // the webhook's own
	CertificateCA   = "ca"   // the one that it leads to
)

// Where keeping the serving certificate goes wrong.
const (
	CertificateSecret        = "secret"        // it cannot be read, holds nothing that could be served, or cannot be renewed
	CertificateConfiguration = "configuration" // the caBundle cannot be read or written
)

// kinds are those of the controller's objects.
var kinds = Label{"kind", []string{"Certificate", "DestinationRule", "PeerAuthentication", "ServiceEntry", "Sidecar", "VirtualService"}}

// The rows. Each is used where the thing is measured.
var (
	Admissions = Metric{
		Name: "redis_tls_admissions_total", Type: Counter,
		Help:   "Admission reviews by what became of the pod, and why.",
		Labels: []Label{{"outcome", outcomes()}, {"reason", admissionReasons()}}, Series: admissions(),
	}
	AdmissionDuration = Metric{
		Name: "redis_tls_admission_duration_seconds", Type: Histogram,
		Help: "Time from the arrival of a review to its decision.",
		// 50 µs to 3.2 s: a warm decision takes some hundred µs, a wait for the namespace up to 2 s.
		Buckets: prometheus.ExponentialBuckets(50e-6, 2, 17),
	}
	AdmissionWarnings = Metric{
		Name: "redis_tls_admission_warnings_total", Type: Counter,
		Help: "Warnings given to those who create pods.",
	}
	ServerPanics = Metric{
		Name: "redis_tls_server_panics_total", Type: Counter,
		Help: "Requests that ended in a panic outside of a decision, and were answered with a 500.",
	}
	FirstUse = Metric{
		Name: "redis_tls_first_use_duration_seconds", Type: Histogram, Leader: true,
		Help:    "Time from the admission of a pod whose mesh objects were missing until the API server had accepted all of them.",
		Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
	}
	ObjectsApplied = Metric{
		Name: "redis_tls_object_writes_total", Type: Counter, Leader: true,
		Help: "Writes of mesh objects by kind and outcome.",
		Labels: []Label{kinds, {"outcome", []string{WriteCreated, WriteUpdated, WriteRepaired, WriteMarked, WriteUnmarked,
			WriteDeleted, WriteConflict, WriteFailed}}},
	}
	Objects = Metric{
		Name: "redis_tls_objects", Type: Gauge, Leader: true,
		Help:   "Mesh objects with our names by kind and state.",
		Labels: []Label{kinds, {"state", []string{ObjectUsed, ObjectUnused, ObjectMarked, ObjectUnmanaged}}},
	}
	Claims = Metric{
		Name: "redis_tls_originations", Type: Gauge, Leader: true,
		Help:   "Claims of live pods by state, one for each host of a workload's revision.",
		Labels: []Label{{"state", []string{ClaimServed, ClaimPending, ClaimRefused, ClaimIgnored}}},
	}
	ClaimsRefused = Metric{
		Name: "redis_tls_originations_refused_total", Type: Counter, Leader: true,
		Help:   "Claims of live pods that are not served, by reason, each counted when it was first seen.",
		Labels: []Label{{"reason", eventReasons(corev1.EventTypeWarning)}},
	}
	Problems = Metric{
		Name: "redis_tls_problems", Type: Gauge, Leader: true,
		Help:   "Problems that stand now, by the reason of the Event that tells of each.",
		Labels: []Label{{"reason", eventReasons(corev1.EventTypeWarning)}},
	}
	WaitingPods = Metric{
		Name: "redis_tls_gated_pods", Type: Gauge, Leader: true,
		Help: "Pods at the first-use gate.",
	}
	WaitingSince = Metric{
		Name: "redis_tls_oldest_gated_pod_timestamp_seconds", Type: Gauge, Leader: true,
		Help: "Creation of the pod that has been at the first-use gate for longest, in seconds since 1970; 0 while none waits.",
	}
	CertificateExpiration = Metric{
		Name: "redis_tls_webhook_certificate_expiration_timestamp_seconds", Type: Gauge,
		Help:   "End of the certificate that the replica serves, and of its CA, in seconds since 1970; 0 before there is one.",
		Labels: []Label{{"certificate", []string{CertificateLeaf, CertificateCA}}},
	}
	CertificateTrusted = Metric{
		Name: "redis_tls_webhook_certificate_trusted", Type: Gauge,
		Help: "1 when every entry of the MutatingWebhookConfiguration carries the CA of the certificate that the replica serves.",
	}
	CertificateErrors = Metric{
		Name: "redis_tls_webhook_certificate_errors_total", Type: Counter,
		Help:   "Failures to read or renew the serving certificate in its Secret, or to write its CA into the MutatingWebhookConfiguration.",
		Labels: []Label{{"object", []string{CertificateSecret, CertificateConfiguration}}},
	}
	CachesSynced = Metric{
		Name: "redis_tls_caches_synced", Type: Gauge,
		Help: "1 when the caches are filled, which the replica needs to be ready.",
	}
	IstioReady = Metric{
		Name: "redis_tls_istio_ready", Type: Gauge,
		Help: "1 when the API server serves Istio's kinds and their caches are filled.",
	}
	BuildInfo = Metric{
		Name: "redis_tls_build_info", Type: Gauge,
		Help:   "1, with the version, the commit and the Go version of the binary.",
		Labels: []Label{{Name: "version"}, {Name: "commit"}, {Name: "goversion"}},
	}
)

// Table returns all rows, in the order of the page.
func Table() []Metric {
	return []Metric{
		Admissions, AdmissionDuration, AdmissionWarnings, ServerPanics,
		FirstUse, WaitingPods, WaitingSince,
		ObjectsApplied, Objects, Claims, ClaimsRefused, Problems,
		CertificateExpiration, CertificateTrusted, CertificateErrors,
		CachesSynced, IstioReady, BuildInfo,
	}
}

// admissions are the pairs of outcome and reason that there are.
func admissions() [][]string {
	var pairs [][]string
	for _, r := range origination.Reasons() {
		for _, outcome := range r.Outcomes {
			pairs = append(pairs, []string{string(outcome), string(r.Reason)})
		}
	}
	return pairs
}

func outcomes() []string {
	var words []string
	for _, pair := range admissions() {
		words = append(words, pair[0])
	}
	slices.Sort(words)
	return slices.Compact(words)
}

func admissionReasons() []string {
	var words []string
	for _, r := range origination.Reasons() {
		if len(r.Outcomes) > 0 {
			words = append(words, string(r.Reason))
		}
	}
	return words
}

// eventReasons are those of the controller's Events of the type.
func eventReasons(kind string) []string {
	var words []string
	for _, r := range origination.Reasons() {
		if r.Event == kind {
			words = append(words, string(r.Reason))
		}
	}
	return words
}
