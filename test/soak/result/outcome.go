// Package result classifies the pods of a soak, and checks their objects.
//
// [Classify] reads the API server's answer to each attempt, [Wrong] compares mesh objects with live pods, and [Tally]
// counts and prints. The package is pure: the caller has the clocks, clients and faults.
package result

import (
	"errors"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Answer is the result of one attempt to create a pod.
type Answer string

const (
	// Accepted: the pod was created, by this attempt or by an earlier one without an answer.
	Accepted Answer = "accepted"
	// Denied: the webhook or a policy refused it.
	Denied Answer = "denied"
	// Unanswered: the API server worked, and no replica of the webhook gave it a final answer.
	Unanswered Answer = "unanswered"
	// Unavailable: the API server or etcd failed.
	Unavailable Answer = "unavailable"
)

// webhooks is in the name of each entry of the webhook configuration.
const webhooks = "pods.redis-tls.internal"

// Classify returns the answer for the error of an attempt.
func Classify(err error) Answer {
	var status apierrors.APIStatus
	switch {
	case err == nil || apierrors.IsAlreadyExists(err):
		return Accepted
	case !errors.As(err, &status):
		return Unavailable // no connection, no answer in time
	}
	text, code := status.Status().Message, status.Status().Code
	switch {
	case strings.Contains(text, "failed calling webhook") && strings.Contains(text, webhooks):
		return Unanswered
	case strings.Contains(text, "denied the request") && strings.Contains(text, webhooks):
		if code >= http.StatusInternalServerError { // no decision: clients retry
			return Unanswered
		}
		return Denied
	case strings.Contains(text, "not yet ready to handle request"): // the API server's own plugins, at its start
		return Unavailable
	case code == http.StatusTooManyRequests, code >= http.StatusInternalServerError:
		return Unavailable
	default:
		return Denied
	}
}

// The most attempts without an answer before a pod counts as lost, and the pause before the second one, which doubles.
// They are those of a ReplicaSet's controller (DefaultTypedControllerRateLimiter in k8s.io/client-go/util/workqueue),
// which would never stop. All pauses together are 20 s.
const (
	MostUnanswered = 13
	firstPause     = 5 * time.Millisecond
)

// Pause returns the pause after this many attempts without an answer.
func Pause(unanswered int) time.Duration { return firstPause << (unanswered - 1) }

// Outcome is the final result of a pod.
type Outcome string

const (
	// Admitted: as expected.
	Admitted Outcome = "admitted"
	// Refused: as expected, for the right reason.
	Refused Outcome = "refused"
	// Lost: anything else. Why has the reason.
	Lost Outcome = "lost"
)

// Pod is the log entry of one pod.
type Pod struct {
	// Fault is the row to which the pod counts: the fault during which it was due.
	Fault     string `json:"fault"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Due is the time at which the pod was to be created, even if the driver was late.
	Due time.Time `json:"due"`
	// Latency is the time from then to the final answer, with retries.
	Latency time.Duration `json:"latencyNanoseconds"`
	// Complete is the time from the answer until its objects existed and its gate was removed.
	Complete time.Duration `json:"completeNanoseconds,omitempty"`
	// Unanswered and Unavailable count the attempts with that answer. LastError is the error of the last of them.
	Unanswered  int     `json:"unanswered,omitempty"`
	Unavailable int     `json:"unavailable,omitempty"`
	LastError   string  `json:"lastError,omitempty"`
	Outcome     Outcome `json:"outcome"`
	Why         string  `json:"why,omitempty"`
}

// Lose sets the outcome to Lost.
func (p *Pod) Lose(why string) { p.Outcome, p.Why = Lost, why }
