package webhook

import (
	"context"
	"net/http"
	"runtime"
	"time"
)

// A review with a body of at most smallBody bytes is read into a buffer that is kept. Larger ones are few, and each
// costs milliseconds and megabytes, so they have a narrow lane of their own: however many come, the
// small ones meet a server that is not much busier for it.
const smallBody = 64 << 10

const (
	// queueing is how long a review waits for its turn. An API server that is told to come again does so itself, within
	// the timeout of its call (withRetry in k8s.io/client-go/rest), and perhaps to another replica.
	queueing = 2 * time.Second
	// retryAfter is when it comes again, in seconds.
	retryAfter = "1"
	// largeRead is how long a large body may take to arrive: it holds up the others of its lane.
	largeRead = 2 * time.Second
	// mostNewcomers is how many reviews may wait at once for namespaces that the cache does not know yet.
	mostNewcomers = 512
)

// lanes are what reviews go through, each so many at a time.
type lanes struct{ small, large, newcomers lane }

func newLanes() lanes {
	processors := runtime.GOMAXPROCS(0)
	return lanes{
		small:     make(lane, max(16, 4*processors)),
		large:     make(lane, max(1, processors/2)),
		newcomers: make(lane, mostNewcomers),
	}
}

// lane lets as many through at a time as its channel holds, the others in the order of their arrival.
type lane chan struct{}

// enter waits for a turn, at most so long, and reports whether it came. Then leave must be called.
func (l lane) enter(ctx context.Context, atMost time.Duration) bool {
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

func (l lane) leave() { <-l }

// turn is a review's place in its lane.
type turn struct {
	large    bool
	lane     lane
	ctx      context.Context
	queueing time.Duration
	taken    bool
}

// turn returns the one of a request, not begun. A body of unknown length is a large one.
func (h *Handler) turn(r *http.Request) *turn {
	t := &turn{lane: h.lanes.small, ctx: r.Context(), queueing: h.queueing}
	if t.large = r.ContentLength < 0 || r.ContentLength > smallBody; t.large {
		t.lane = h.lanes.large
	}
	return t
}

// begin reports whether the turn has come.
func (t *turn) begin() bool {
	t.taken = t.lane.enter(t.ctx, t.queueing)
	return t.taken
}

// end ends a turn that has begun.
func (t *turn) end() {
	if t.taken {
		t.lane.leave()
		t.taken = false
	}
}
