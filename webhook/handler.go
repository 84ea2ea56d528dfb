// Package webhook answers the API server's admission requests.
//
// [NewHandler] returns the [Handler] that the server mounts at [Path]. It limits and decodes a review, calls
// [inject.Injector.Inject] and encodes the decision. It does no I/O of its own, because the injector reads informer
// caches. So a dry run or a forged review changes nothing.
package webhook

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Path is the URL path of the handler, as in the chart's MutatingWebhookConfiguration names it.
const Path = "/mutate"

// A namespace and its first pod are often created together, and the pod's review can arrive before the namespace's
// watch event. The handler waits for the event, well below the webhook's timeout of 5 s.
const (
	namespaceWait = 2 * time.Second
	namespacePoll = 20 * time.Millisecond
)

// Handler is the http.Handler of Path. It does not use controller-runtime's admission.Webhook, which parses the pod
// four more times; test/bench measures the difference.
type Handler struct {
	// NeedCertManager, if set, is called when a pod requires cert-manager and the API server does not serve its kinds.
	// It must not block.
	NeedCertManager func()

	injector atomic.Pointer[inject.Injector]
	log      logr.Logger
	metrics  handlerMetrics
	limiters limiters
	// wait and poll are how long and how often the handler looks for a namespace that is not in the cache.
	wait, poll time.Duration
	// slotWait and largeRead are the constants of limiter.go, shorter in tests.
	slotWait, largeRead time.Duration
}

// NewHandler returns the handler and registers its metrics.
func NewHandler(injector *inject.Injector, registry prometheus.Registerer, log logr.Logger) (*Handler, error) {
	m, err := newMetrics(registry)
	if err != nil {
		return nil, fmt.Errorf("registering the admission metrics: %w", err)
	}
	h := &Handler{
		log:       log,
		metrics:   m,
		limiters:  newLimiters(),
		wait:      namespaceWait,
		poll:      namespacePoll,
		slotWait:  slotWait,
		largeRead: largeRead,
	}
	h.injector.Store(injector)
	return h, nil
}

// SetPolicy replaces the policy. A review that is being decided keeps the previous one.
func (h *Handler) SetPolicy(policy config.Policy) {
	injector := *h.injector.Load()
	injector.Config.Policy = policy
	h.injector.Store(&injector)
}

// ServeHTTP answers one review. A request that is not a review gets a 4xx, and a review without a slot gets a 503.
// Every other request gets an AdmissionReview, even if the decision panics.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	s := h.slot(r)
	defer s.release() // even after a panic
	req, unreadable := h.receive(w, r, s)
	if unreadable != nil {
		h.metrics.observe(origination.OutcomeRefused, unreadable.reason, 0, time.Since(start))
		h.log.Info(
			"unreadable request",
			"reason",
			unreadable.reason,
			"status",
			unreadable.status,
			"error",
			unreadable.Error(),
		)
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
	s.release() // a client that reads slowly must not hold a slot
	if err == nil {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(body.Len())) // without it, net/http sends more than 2 KB in chunks
		_, err = w.Write(body.Bytes())
	}
	if err != nil {
		h.log.Error(err, "writing the response", "namespace", req.Namespace, "pod", req.name())
	}
}

// receive reads the review, acquires its slot, and waits for the namespace if the cache does not have it yet. A small
// review holds no slot while it is read or waits.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request, s *slot) (*request, *unreadableError) {
	if unreadable := check(r); unreadable != nil {
		return nil, unreadable
	}
	if s.large {
		if !s.acquire() {
			return nil, overloaded()
		}
		// Not every ResponseWriter has deadlines. Those of net/http do, and drop this one when the body has arrived.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.largeRead))
	}
	body := buffers.Get().(*bytes.Buffer)
	defer putBuffer(body)
	if unreadable := readBody(body, w, r); unreadable != nil {
		return nil, unreadable
	}
	if !s.large && !s.acquire() {
		return nil, overloaded()
	}
	req, unreadable := decode(body.Bytes())
	if unreadable != nil || req.unexpected() != "" || h.known(req.Namespace) {
		return req, unreadable
	}
	if !s.large {
		s.release()
	}
	h.awaitNamespace(r.Context(), req.Namespace)
	if !s.large && !s.acquire() {
		return nil, overloaded()
	}
	return req, nil
}

// decide returns the decision and the message for the user. It never panics.
func (h *Handler) decide(req *request) (decision inject.Decision, message string) {
	injector := h.injector.Load()
	policy := injector.Config.Policy
	defer func() {
		if cause := recover(); cause != nil {
			h.log.Error(fmt.Errorf("%v", cause), "panic in the decision",
				"namespace", req.Namespace, "pod", req.name(), "stack", string(debug.Stack()))
			decision, message = internalError(policy)
		}
	}()
	if message := req.unexpected(); message != "" {
		return inject.Decision{Reason: origination.ReasonMalformedRequest}, message
	}
	pod := req.Object
	pod.Namespace = req.Namespace // the object under review may lack it
	policy = injector.Policy(req.Namespace)
	decision = injector.Inject(req.Namespace, pod)
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

// internalError returns the decision after a panic: the pod is refused unless the mode of the policy is warn.
func internalError(policy config.Policy) (inject.Decision, string) {
	_, warns := policy.Warns()
	const message = "internal error in redis-tls; see the webhook's log for the stack, and report it as a bug"
	return inject.Decision{
		Reason:   origination.ReasonInternalError,
		Allowed:  warns,
		Warnings: []string{message},
		Problems: []origination.Problem{{
			Reason: origination.ReasonInternalError,
			Err:    field.InternalError(nil, fmt.Errorf("%s", message)),
		}},
	}, message
}

// known reports whether the cache has the namespace.
func (h *Handler) known(namespace string) bool {
	_, _, ok := h.injector.Load().View.Namespace(namespace)
	return ok
}

// awaitNamespace returns when the cache has the namespace, or when the wait or the request ends. It returns at once if
// too many reviews wait already.
func (h *Handler) awaitNamespace(ctx context.Context, namespace string) {
	if !h.limiters.waiters.acquire(ctx, 0) {
		return
	}
	defer h.limiters.waiters.release()
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
