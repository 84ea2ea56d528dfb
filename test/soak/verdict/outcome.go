// Package verdict judges what became of the pods of a soak, and of their objects.
//
// In go the answers of the API server to each attempt, live pods and the mesh objects around them; out come
// outcomes, differences and the table. The package is pure: clocks, clients and faults are the caller's.
package verdict

import (
	"errors"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Answer is what an attempt to create a pod came to.
type Answer string

const (
	// Accepted: the pod was created, by this attempt or by an earlier one that was not answered.
	Accepted Answer = "accepted"
	// Denied: the webhook or a policy has decided against it.
	Denied Answer = "denied"
	// Unanswered: the API server worked, and no replica of ours gave it an answer that holds.
	Unanswered Answer = "unanswered"
	// Unavailable: the API server itself, or etcd behind it, did not do its part.
	Unavailable Answer = "unavailable"
)

// ours is in the name of each entry of our webhook configuration.
const ours = "pods.redis-tls.internal"

// Judge tells from the error of an attempt what it came to.
func Judge(err error) Answer {
	var status apierrors.APIStatus
	switch {
	case err == nil || apierrors.IsAlreadyExists(err):
		return Accepted
	case !errors.As(err, &status):
		return Unavailable // no connection, no answer in time
	}
	text, code := status.Status().Message, status.Status().Code
	switch {
	case strings.Contains(text, "failed calling webhook") && strings.Contains(text, ours):
		return Unanswered
	case strings.Contains(text, "denied the request") && strings.Contains(text, ours):
		if code >= http.StatusInternalServerError { // it has not decided: clients retry
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

// The most attempts that may go unanswered before a pod counts as lost, and the pause before the second one, which
// doubles: those of a ReplicaSet's controller (DefaultTypedControllerRateLimiter in k8s.io/client-go/util/workqueue),
// which would go on for ever. All pauses together are 20 s.
const (
	MostUnanswered = 13
	firstPause     = 5 * time.Millisecond
)

// Pause is how long to wait after so many attempts that went unanswered.
func Pause(unanswered int) time.Duration { return firstPause << (unanswered - 1) }

// Outcome is what became of a pod.
type Outcome string

const (
	// Admitted: as it should be.
	Admitted Outcome = "admitted"
	// Refused: as it should be, for the right reason.
	Refused Outcome = "refused"
	// Lost: anything else. Why says what.
	Lost Outcome = "lost"
)

// Pod is the record of one pod, a line of the log.
type Pod struct {
	// Fault is the row that the pod counts for: the fault during which it was due.
	Fault     string `json:"fault"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Due is when the pod was to be created, whether or not the driver was late.
	Due time.Time `json:"due"`
	// Latency is from then to the answer that held, retries included.
	Latency time.Duration `json:"latencyNanoseconds"`
	// Complete is from the answer to the moment when its objects were seen to be there and its gate off.
	Complete time.Duration `json:"completeNanoseconds,omitempty"`
	// Unanswered and Unavailable are the attempts that came to that; LastError is of the last of them.
	Unanswered  int     `json:"unanswered,omitempty"`
	Unavailable int     `json:"unavailable,omitempty"`
	LastError   string  `json:"lastError,omitempty"`
	Outcome     Outcome `json:"outcome"`
	Why         string  `json:"why,omitempty"`
}

// Lose makes the pod a lost one.
func (p *Pod) Lose(why string) { p.Outcome, p.Why = Lost, why }
