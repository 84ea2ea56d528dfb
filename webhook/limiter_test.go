package webhook

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// blockedView is a view in which each lookup of a namespace is reported and blocks until it is released.
type blockedView struct {
	view
	lookups, released chan struct{}
}

func newBlockedView() *blockedView {
	return &blockedView{lookups: make(chan struct{}, 1000), released: make(chan struct{})}
}

// newBlockedHandler returns a handler with a blocked view and with the given number of slots in each limiter. It waits
// only a moment for a slot.
func newBlockedHandler(t *testing.T, slots int) (*Handler, *blockedView) {
	v := newBlockedView()
	h := newHandler(t, &v.view, config.PolicyEnforce)
	h.injector.Load().View = v
	h.limiters = limiters{small: make(limiter, slots), large: make(limiter, slots), waiters: make(limiter, slots)}
	h.slotWait = time.Millisecond
	return h, v
}

func (v *blockedView) Namespace(name string) (map[string]string, map[string]string, bool) {
	v.lookups <- struct{}{}
	<-v.released
	return v.view.Namespace(name)
}

// largePod returns a valid pod whose review is large.
func largePod() *corev1.Pod {
	return newPod(map[string]string{
		"redis-tls/host":    "redis-a.example.com",
		"example.com/notes": strings.Repeat("n", smallBody),
	})
}

func TestReviewWithoutASlotIsAnsweredWithRetryAfter(t *testing.T) {
	c := catalog.Open(t)
	h, v := newBlockedHandler(t, 1)
	answers := make(chan *httptest.ResponseRecorder, 2)
	for _, pod := range []*corev1.Pod{newPod(requesting), largePod()} {
		go func() { answers <- post(h, newReview(t, pod)) }()
		<-v.lookups // it has its slot
	}
	for name, pod := range map[string]*corev1.Pod{"a small review": newPod(requesting), "a large review": largePod()} {
		beyond := make(chan *httptest.ResponseRecorder, 1)
		go func() { beyond <- post(h, newReview(t, pod)) }()
		select {
		case w := <-beyond:
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" {
				t.Errorf("got %d with %v, want 503 with Retry-After", w.Code, w.Header())
			}
			c.Add(name, strings.TrimSpace(w.Body.String()))
		case <-v.lookups:
			close(v.released)
			t.Fatal("a review without a slot is decided")
		}
	}
	if got := testutil.ToFloat64(h.metrics.total.WithLabelValues(
		"refused",
		string(origination.ReasonOverloaded),
	)); got != 2 {
		t.Errorf("%v refusals are counted, want 2", got)
	}
	close(v.released)
	for range 2 {
		if response := answer(t, <-answers); !response.Allowed {
			t.Errorf("a review that had its slot: %+v", response)
		}
	}
	for _, pod := range []*corev1.Pod{newPod(requesting), largePod()} {
		if response := answer(t, post(h, newReview(t, pod))); !response.Allowed {
			t.Errorf("a later review: %+v", response)
		}
	}
}

func TestReviewWaitsForASlot(t *testing.T) {
	h, v := newBlockedHandler(t, 1)
	h.slotWait = time.Hour
	answers := make(chan *httptest.ResponseRecorder)
	for range 3 {
		go func() { answers <- post(h, newReview(t, newPod(requesting))) }()
	}
	<-v.lookups
	close(v.released)
	for range 3 {
		if response := answer(t, <-answers); !response.Allowed {
			t.Errorf("got %+v", response)
		}
	}
}

func TestLargeReviewsDoNotDelaySmallOnes(t *testing.T) {
	h, v := newBlockedHandler(t, 1)
	done := make(chan *httptest.ResponseRecorder)
	go func() { done <- post(h, newReview(t, largePod())) }()
	<-v.lookups
	h.injector.Load().View = &view{}
	if response := answer(t, post(h, newReview(t, newPod(requesting)))); !response.Allowed {
		t.Errorf("got %+v", response)
	}
	close(v.released)
	answer(t, <-done)
}

// endless is a body that blocks until it is closed.
type endless struct{ closed chan struct{} }

func (e endless) Read([]byte) (int, error) {
	<-e.closed
	return 0, io.ErrUnexpectedEOF
}

func TestSlowSmallBodyHoldsNoSlot(t *testing.T) {
	h := newHandler(t, &view{}, config.PolicyEnforce)
	h.limiters.small, h.slotWait = make(limiter, 1), time.Millisecond
	slow := endless{make(chan struct{})}
	ended := make(chan int)
	go func() {
		r := httptest.NewRequest(http.MethodPost, Path, slow)
		r.Header.Set("Content-Type", "application/json")
		r.ContentLength = 100
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		ended <- w.Code
	}()
	if response := answer(t, post(h, newReview(t, newPod(requesting)))); !response.Allowed {
		t.Errorf("got %+v", response)
	}
	close(slow.closed)
	if code := <-ended; code != http.StatusBadRequest {
		t.Errorf("half a body is answered with %d", code)
	}
}

func TestSlowLargeBodyIsCutOff(t *testing.T) {
	h := newHandler(t, &view{}, config.PolicyEnforce)
	h.largeRead = 20 * time.Millisecond
	server := httptest.NewServer(h)
	defer server.Close()
	body, writer := io.Pipe()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	context.AfterFunc(ctx, func() { writer.CloseWithError(ctx.Err()) })
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("status %s", response.Status)
	}
}

func TestReadDeadlineOfALargeBodyDoesNotEndItsRequest(t *testing.T) {
	h := newHandler(t, &view{}, config.PolicyEnforce)
	h.largeRead = 200 * time.Millisecond
	contexts := make(chan context.Context, 1)
	released := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		contexts <- r.Context()
		<-released
	}))
	defer server.Close()
	go func() {
		response, err := http.Post(server.URL, "application/json", bytes.NewReader(newReview(t, largePod())))
		if err == nil {
			response.Body.Close()
		}
	}()
	ctx := <-contexts
	select {
	case <-ctx.Done():
		t.Error("the request's context is done")
	case <-time.After(3 * h.largeRead):
	}
	close(released)
}

func TestPanicWhileReceivingReleasesTheSlot(t *testing.T) {
	h := newHandler(t, &view{}, config.PolicyEnforce)
	h.limiters.small, h.slotWait = make(limiter, 1), time.Millisecond
	works := h.injector.Load().View
	h.injector.Load().View = nil
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic, so the test proves nothing")
			}
		}()
		post(h, newReview(t, newPod(requesting)))
	}()
	h.injector.Load().View = works
	if response := answer(t, post(h, newReview(t, newPod(requesting)))); !response.Allowed {
		t.Errorf("got %+v", response)
	}
}

func TestWaitersForNamespacesAreLimited(t *testing.T) {
	v := &view{}
	v.unknownFor.Store(1 << 30)
	h := newHandler(t, v, config.PolicyEnforce)
	h.wait, h.limiters.waiters = time.Hour, make(limiter, 1)
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan struct{})
	go func() { h.awaitNamespace(ctx, "shop"); close(waits) }()
	for begun := time.Now(); len(h.limiters.waiters) == 0; runtime.Gosched() {
		if time.Since(begun) > 10*time.Second {
			t.Fatal("the first does not wait")
		}
	}
	second, give := context.WithTimeout(t.Context(), 10*time.Second)
	defer give()
	if h.awaitNamespace(second, "shop"); second.Err() != nil {
		t.Error("the second waits too")
	}
	cancel()
	<-waits
}
