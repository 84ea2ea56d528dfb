// Package webhook answers the API server's admission requests.
//
// In goes an AdmissionReview over HTTP, out comes one with the decision of package inject. The handler
// is thin: it limits and decodes, asks the injector, and encodes. It does no I/O of its own (the
// injector reads informer caches), so a dry run and a forged review leave nothing behind.
package webhook

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Path is where the handler is served, as the chart's MutatingWebhookConfiguration names it.
const Path = "/mutate"

// A namespace and its first pod are often created at once, and the pod's review can arrive before the
// namespace's watch event. It is worth a wait well below the webhook's timeout of 5 s.
const (
	namespaceWait = 2 * time.Second
	namespacePoll = 20 * time.Millisecond
)

// Handler is the http.Handler of Path. It decodes by itself, rather than through controller-runtime's
// admission.Webhook, because that one parses the pod four times more (test/bench has the difference).
type Handler struct {
	// NeedCertManager, if it is set, is called when a pod needs cert-manager and the API server does not serve its
	// kinds. It must not block.
	NeedCertManager func()

	injector *inject.Injector
	log      logr.Logger
	metrics  handlerMetrics
	lanes    lanes
	// wait and poll are the bounds of waiting for an unknown namespace.
	wait, poll time.Duration
	// queueing and largeRead are those of lane.go.
	queueing, largeRead time.Duration
}

// NewHandler returns the handler and registers its metrics.
func NewHandler(injector *inject.Injector, registry prometheus.Registerer, log logr.Logger) (*Handler, error) {
	m, err := newMetrics(registry)
	if err != nil {
		return nil, fmt.Errorf("registering the admission metrics: %w", err)
	}
	return &Handler{injector: injector, log: log, metrics: m, lanes: newLanes(), wait: namespaceWait, poll: namespacePoll, queueing: queueing, largeRead: largeRead}, nil
}

// ServeHTTP answers one review. What is not a review at all gets a 4xx, and what finds no turn a 503; everything
// else gets an AdmissionReview, also when we fail.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	t := h.turn(r)
	defer t.end() // also of a panic
	req, unreadable := h.receive(w, r, t)
	if unreadable != nil {
		h.metrics.observe(origination.OutcomeRefused, unreadable.reason, 0, time.Since(start))
		h.log.Info("unreadable request", "reason", unreadable.reason, "status", unreadable.status, "error", unreadable.Error())
		if unreadable.status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", retryAfter)
		}
		http.Error(w, unreadable.Error(), unreadable.status)
		return
	}
	decision, message := h.decide(req)
	h.metrics.observe(decision.Outcome(), decision.Reason, len(decision.Warnings), time.Since(start))
	body := buffers.Get().(*bytes.Buffer)
	defer putBuffer(body)
	err := writeReview(body, req.UID, decision, message)
	t.end() // whoever is slow to read holds nobody up
	if err == nil {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(body.Len())) // else what is over 2 KB goes out in chunks
		_, err = w.Write(body.Bytes())
	}
	if err != nil {
		h.log.Error(err, "writing the response", "namespace", req.Namespace, "pod", req.name())
	}
}

// receive reads the review, takes its turn, and waits for the namespace where the cache does not know it yet. Small
// reviews are in no lane while they are read or wait.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request, t *turn) (*request, *unreadableError) {
	if unreadable := check(r); unreadable != nil {
		return nil, unreadable
	}
	if t.large {
		if !t.begin() {
			return nil, overloaded()
		}
		// Not every ResponseWriter has deadlines; those of net/http have, and forget this one once the body is there.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.largeRead))
	}
	body := buffers.Get().(*bytes.Buffer)
	defer putBuffer(body)
	if unreadable := readBody(body, w, r); unreadable != nil {
		return nil, unreadable
	}
	if !t.large && !t.begin() {
		return nil, overloaded()
	}
	req, unreadable := decode(body.Bytes())
	if unreadable != nil || req.foreign() != "" || h.known(req.Namespace) {
		return req, unreadable
	}
	if !t.large {
		t.end()
	}
	h.awaitNamespace(r.Context(), req.Namespace)
	if !t.large && !t.begin() {
		return nil, overloaded()
	}
	return req, nil
}

// decide returns the decision and the message for the user. It never panics.
func (h *Handler) decide(req *request) (decision inject.Decision, message string) {
	defer func() {
		if cause := recover(); cause != nil {
			h.log.Error(fmt.Errorf("%v", cause), "panic in the decision", "namespace", req.Namespace, "pod", req.name(), "stack", string(debug.Stack()))
			decision, message = h.internal()
		}
	}()
	if message := req.foreign(); message != "" {
		return inject.Decision{Reason: origination.ReasonMalformedRequest}, message
	}
	pod := req.Object
	pod.Namespace = req.Namespace // objects under review may lack it
	decision = h.injector.Inject(req.Namespace, pod)
	message = decision.Message(req.Namespace, pod)
	if h.NeedCertManager != nil && slices.ContainsFunc(decision.Problems, func(p origination.Problem) bool {
		return p.Reason == origination.ReasonNoCertManager
	}) {
		h.NeedCertManager()
	}

	log := h.log.V(1)
	if len(decision.Problems) > 0 {
		log = h.log
	}
	if log.Enabled() {
		log.Info("decided", "outcome", decision.Outcome(), "reason", decision.Reason,
			"namespace", req.Namespace, "pod", req.name(), "operations", len(decision.Operations), "message", message)
	}
	return decision, message
}

// internal is the decision after a panic: no TLS is a refusal, unless the policy is to refuse nothing.
func (h *Handler) internal() (inject.Decision, string) {
	const message = "redis-tls failed to decide, which is a bug of its own; its log has the details"
	return inject.Decision{
		Reason:   origination.ReasonInternalError,
		Allowed:  h.injector.Config.Policy.Mode == config.PolicyWarn,
		Warnings: []string{message},
		Problems: []origination.Problem{{Reason: origination.ReasonInternalError, Err: field.InternalError(nil, fmt.Errorf("%s", message))}},
	}, message
}

// known reports whether the cache knows the namespace.
func (h *Handler) known(namespace string) bool {
	_, _, ok := h.injector.View.Namespace(namespace)
	return ok
}

// awaitNamespace returns when the cache knows the namespace, or the wait or the request is over, or too many wait already.
func (h *Handler) awaitNamespace(ctx context.Context, namespace string) {
	if !h.lanes.newcomers.enter(ctx, 0) {
		return
	}
	defer h.lanes.newcomers.leave()
	ctx, cancel := context.WithTimeout(ctx, h.wait)
	defer cancel()
	tick := time.NewTicker(h.poll)
	defer tick.Stop()
	for !h.known(namespace) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
