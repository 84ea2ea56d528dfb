package result

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func status(code int32, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Code: code, Message: message}}
}

// TestClassify uses messages of a real API server. An Unavailable answer never counts against the webhook, so no
// failure of the webhook may be Unavailable.
func TestClassify(t *testing.T) {
	const call = `Internal error occurred: failed calling webhook "annotated.pods.redis-tls.internal": ` +
		`failed to call webhook: Post "https://redis-tls-webhook.redis-tls-system.svc:443/mutate?timeout=5s": `
	for name, c := range map[string]struct {
		err  error
		want Answer
	}{
		"created": {nil, Accepted},
		"created by an earlier attempt": {
			apierrors.NewAlreadyExists(schema.GroupResource{Resource: "pods"}, "p"),
			Accepted,
		},
		"a replica that has ended": {
			status(500, call+"dial tcp 198.18.0.1:9443: connect: connection refused"),
			Unanswered,
		},
		"a replica that ended during the call": {status(500, call+"EOF"), Unanswered},
		"a certificate that is not trusted": {
			status(500, call+"tls: failed to verify certificate: x509: certificate signed by unknown authority"),
			Unanswered,
		},
		"a replica that does not answer": {status(500, call+"context deadline exceeded"), Unanswered},
		"no replica": {
			status(500, call+`no endpoints available for service "redis-tls-webhook"`),
			Unanswered,
		},
		"a namespace that is not in the cache yet": {
			status(503, `admission webhook "annotated.pods.redis-tls.internal" denied the request: namespace`),
			Unanswered,
		},
		"a panic in the webhook": {
			status(500, `admission webhook "annotated.pods.redis-tls.internal" denied the request: redis-tls failed to decide`),
			Unanswered,
		},
		"a wrong request": {
			status(403, `admission webhook "annotated.pods.redis-tls.internal" denied the request: pod p`),
			Denied,
		},
		"the guard's refusal": {
			status(
				422,
				`pods "p" is forbidden: ValidatingAdmissionPolicy 'redis-tls-guard' with binding 'redis-tls-guard' denied request`,
			),
			Denied,
		},
		"a pod that the patch made invalid": {apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "p", nil), Denied},
		"the stand-in for Istio's injector": {
			status(500, `failed calling webhook "namespace.sidecar-injector.istio.io": EOF`),
			Unavailable,
		},
		"an API server that is still starting": {
			status(403, `pods "p" is forbidden: not yet ready to handle request`),
			Unavailable,
		},
		"an etcd that does not answer": {
			status(http.StatusInternalServerError, "etcdserver: request timed out"),
			Unavailable,
		},
		"an API server that is overloaded": {status(http.StatusTooManyRequests, "too many requests"), Unavailable},
		"an API server that has ended": {
			errors.New("dial tcp 127.64.0.1:6443: connect: connection refused"),
			Unavailable,
		},
		"an API server that does not answer": {fmt.Errorf("client: %w", context.DeadlineExceeded), Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Classify(c.err); got != c.want {
				t.Errorf("%v is %s, want %s", c.err, got, c.want)
			}
		})
	}
}

func TestPodIsRetriedForTwentySeconds(t *testing.T) {
	var all time.Duration
	for n := 1; n < MostUnanswered; n++ {
		all += Pause(n)
	}
	if Pause(1) != 5*time.Millisecond || Pause(2) != 10*time.Millisecond || all.Round(time.Second) != 20*time.Second {
		t.Errorf("pauses %s, %s, …, %s together", Pause(1), Pause(2), all)
	}
}
