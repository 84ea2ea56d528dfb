package metrics

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// The outcomes of a write of a mesh object.
const (
	WriteCreated  = "created"  // the object was missing
	WriteUpdated  = "updated"  // another content is desired
	WriteRepaired = "repaired" // another client had changed it
	WriteUnused   = "unused"   // since when no pod uses it is recorded
	WriteMarked   = "marked"   // for deletion, because no pod uses it
	WriteUnmarked = "unmarked" // a pod uses it again
	WriteDeleted  = "deleted"
	WriteConflict = "conflict" // the cache was behind; tried again at once
	WriteFailed   = "failed"   // the API server refused it; tried again with backoff
)

// The states of the originations of live pods.
const (
	ClaimServed  = "served"
	ClaimPending = "pending" // its objects are not complete: new, or failing, or Istio's kinds are missing
	ClaimRefused = "refused" // for one of the reasons of redis_tls_problems
	ClaimIgnored = "ignored" // of a pod whose status is not trusted; counted once for each pod
)

// The states of objects with names of redis-tls.
const (
	ObjectUsed      = "used"      // a live pod uses it
	ObjectUnused    = "unused"    // no live pod uses it, and the grace period runs
	ObjectMarked    = "marked"    // for deletion
	ObjectUnmanaged = "unmanaged" // desired, but an unmanaged object has its name
)

// The certificates that the API server verifies.
const (
	CertificateLeaf = "leaf" // the serving certificate
	CertificateCA   = "ca"   // the CA of the serving certificate
)

// The objects of errors of the serving certificate.
const (
	CertificateSecret        = "secret"        // it cannot be read, has no valid certificate, or cannot be renewed
	CertificateConfiguration = "configuration" // the caBundle cannot be read or written
)

// kinds are the kinds of the controller's objects.
var kinds = Label{
	"kind",
	[]string{"Certificate", "DestinationRule", "PeerAuthentication", "ServiceEntry", "Sidecar", "VirtualService"},
}

// The rows of the table.
var (
	Admissions = Metric{
		Name: "redis_tls_admissions_total", Type: Counter,
		Help:   "Admission reviews by outcome and reason.",
		Labels: []Label{{"outcome", outcomes()}, {"reason", admissionReasons()}}, Series: admissions(),
	}
	AdmissionDuration = Metric{
		Name: "redis_tls_admission_duration_seconds", Type: Histogram,
		Help: "Time from the arrival of an admission review to its decision.",
		// 50 µs to 3.2 s: a warm decision takes some hundred µs, a wait for the namespace up to 2 s.
		Buckets: prometheus.ExponentialBuckets(50e-6, 2, 17),
	}
	AdmissionWarnings = Metric{
		Name: "redis_tls_admission_warnings_total", Type: Counter,
		Help: "Warnings returned to clients that create pods.",
	}
	ServerPanics = Metric{
		Name: "redis_tls_server_panics_total", Type: Counter,
		Help: "Requests that panicked outside of a decision, and were answered with status 500.",
	}
	FirstUse = Metric{
		Name: "redis_tls_first_use_duration_seconds", Type: Histogram, Leader: true,
		Help:    "Time from the admission of a pod without mesh objects until the API server accepted all of them.",
		Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
	}
	ObjectsApplied = Metric{
		Name: "redis_tls_object_writes_total", Type: Counter, Leader: true,
		Help: "Writes of mesh objects by kind and outcome.",
		Labels: []Label{kinds, {"outcome", []string{WriteCreated, WriteUpdated, WriteRepaired, WriteUnused, WriteMarked,
			WriteUnmarked, WriteDeleted, WriteConflict, WriteFailed}}},
	}
	Objects = Metric{
		Name: "redis_tls_objects", Type: Gauge, Leader: true,
		Help:   "Mesh objects with names of redis-tls by kind and state.",
		Labels: []Label{kinds, {"state", []string{ObjectUsed, ObjectUnused, ObjectMarked, ObjectUnmanaged}}},
	}
	Claims = Metric{
		Name: "redis_tls_originations", Type: Gauge, Leader: true,
		Help:   "Originations of live pods by state, one for each host of a workload's revision.",
		Labels: []Label{{"state", []string{ClaimServed, ClaimPending, ClaimRefused, ClaimIgnored}}},
	}
	ClaimsRefused = Metric{
		Name: "redis_tls_originations_refused_total", Type: Counter, Leader: true,
		Help:   "Originations of live pods that are not served, by reason. Each is counted once, when it is first seen.",
		Labels: []Label{{"reason", eventReasons(corev1.EventTypeWarning)}},
	}
	Problems = Metric{
		Name: "redis_tls_problems", Type: Gauge, Leader: true,
		Help:   "Current problems, by the reason of their Event.",
		Labels: []Label{{"reason", eventReasons(corev1.EventTypeWarning)}},
	}
	WaitingPods = Metric{
		Name: "redis_tls_gated_pods", Type: Gauge, Leader: true,
		Help: "Pods that wait at the first-use gate.",
	}
	WaitingSince = Metric{
		Name: "redis_tls_oldest_gated_pod_timestamp_seconds", Type: Gauge, Leader: true,
		Help: "Creation time of the oldest pod at the first-use gate, in seconds since 1970. 0 while no pod waits.",
	}
	CertificateExpiration = Metric{
		Name: "redis_tls_webhook_certificate_expiration_timestamp_seconds", Type: Gauge,
		Help:   "Expiry of the replica's serving certificate and of its CA, in seconds since 1970. 0 before there is one.",
		Labels: []Label{{"certificate", []string{CertificateLeaf, CertificateCA}}},
	}
	CertificateTrusted = Metric{
		Name: "redis_tls_webhook_certificate_trusted", Type: Gauge,
		Help: "1 if every entry of the MutatingWebhookConfiguration contains the CA of the replica's certificate.",
	}
	CertificateErrors = Metric{
		Name: "redis_tls_webhook_certificate_errors_total", Type: Counter,
		Help:   "Failures to read or renew the serving certificate, or to write its CA to the MutatingWebhookConfiguration.",
		Labels: []Label{{"object", []string{CertificateSecret, CertificateConfiguration}}},
	}
	CachesSynced = Metric{
		Name: "redis_tls_caches_synced", Type: Gauge,
		Help: "1 if the caches are filled, which the replica requires to be ready.",
	}
	IstioReady = Metric{
		Name: "redis_tls_istio_ready", Type: Gauge,
		Help: "1 if the API server serves Istio's kinds and their caches are filled.",
	}
	PolicyCurrent = Metric{
		Name: "redis_tls_policy_current", Type: Gauge,
		Help: "1 if the policy in force is that of the ConfigMap. 0 while that is not valid.",
	}
	BuildInfo = Metric{
		Name: "redis_tls_build_info", Type: Gauge,
		Help:   "1, with the version, the commit and the Go version of the binary.",
		Labels: []Label{{Name: "version"}, {Name: "commit"}, {Name: "goversion"}},
	}
)

// Table returns all rows, in the order of docs/operations.md.
func Table() []Metric {
	return []Metric{
		Admissions, AdmissionDuration, AdmissionWarnings, ServerPanics,
		FirstUse, WaitingPods, WaitingSince,
		ObjectsApplied, Objects, Claims, ClaimsRefused, Problems,
		CertificateExpiration, CertificateTrusted, CertificateErrors,
		CachesSynced, IstioReady, PolicyCurrent, BuildInfo,
	}
}

// admissions returns the possible pairs of outcome and reason.
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
	var names []string
	for _, pair := range admissions() {
		names = append(names, pair[0])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func admissionReasons() []string {
	var names []string
	for _, r := range origination.Reasons() {
		if len(r.Outcomes) > 0 {
			names = append(names, string(r.Reason))
		}
	}
	return names
}

// eventReasons returns the reasons of the controller's Events of the type.
func eventReasons(kind string) []string {
	var names []string
	for _, r := range origination.Reasons() {
		if r.Event == kind {
			names = append(names, string(r.Reason))
		}
	}
	return names
}
