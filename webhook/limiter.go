package webhook

import (
	"context"
	"net/http"
	"runtime"
	"time"
)

// smallBody is the size up to which a review is read into a buffer that is reused. Larger reviews are rare, and each
// costs milliseconds and megabytes. They have a narrow limiter of their own, so they do not delay the small ones.
const smallBody = 64 << 10

const (
	// slotWait is how long a review waits for a slot. An API server that is refused with Retry-After repeats the call
	// within the call's timeout (withRetry in k8s.io/client-go/rest), perhaps to another replica.
	slotWait = 2 * time.Second
	// retryAfter is the header Retry-After, in seconds.
	retryAfter = "1"
	// largeRead is how long a large body may take to arrive, because it holds a slot meanwhile.
	largeRead = 2 * time.Second
	// maxWaiters is how many reviews may wait at once for namespaces that are not in the cache yet.
	maxWaiters = 512
)

// limiters bound how many reviews are read, decided or waiting at once.
type limiters struct{ small, large, waiters limiter }

func newLimiters() limiters {
	processors := runtime.GOMAXPROCS(0)
	return limiters{
		small:   make(limiter, max(16, 4*processors)),
		large:   make(limiter, max(1, processors/2)),
		waiters: make(limiter, maxWaiters),
	}
}

// limiter admits as many holders at once as its channel has room for. The others wait in the order of their arrival.
type limiter chan struct{}

// acquire waits for a slot, at most the given time, and reports whether it got one. If it did, release must be called.
func (l limiter) acquire(ctx context.Context, atMost time.Duration) bool {
	select {
	case l <- struct{}{}:
		return true
	default:
	}
	if atMost <= 0 {
		return false
	}
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case l <- struct{}{}:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func (l limiter) release() { <-l }

// slot is the slot of one review in its limiter.
type slot struct {
	large   bool
	limiter limiter
	ctx     context.Context
	wait    time.Duration
	held    bool
}

// slot returns the slot of a request, not acquired yet. A body of unknown length counts as large.
func (h *Handler) slot(r *http.Request) *slot {
	s := &slot{limiter: h.limiters.small, ctx: r.Context(), wait: h.slotWait}
	if s.large = r.ContentLength < 0 || r.ContentLength > smallBody; s.large {
		s.limiter = h.limiters.large
	}
	return s
}

// acquire reports whether the slot is held now.
func (s *slot) acquire() bool {
	s.held = s.limiter.acquire(s.ctx, s.wait)
	return s.held
}

// release releases the slot if it is held.
func (s *slot) release() {
	if s.held {
		s.limiter.release()
		s.held = false
	}
}
