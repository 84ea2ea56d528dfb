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

// held is a view whose first question about a namespace's claims waits until it is let go.
type held struct {
	view
	asked, released chan struct{}
}

func newHeld() *held { return &held{asked: make(chan struct{}, 1000), released: make(chan struct{})} }

// hold makes a handler with so many turns in each lane, and no patience.
func hold(t *testing.T, turns int) (*Handler, *held) {
	v := newHeld()
	h := newHandler(t, &v.view, config.PolicyEnforce)
	h.injector.View = v
	h.lanes = lanes{small: make(lane, turns), large: make(lane, turns), newcomers: make(lane, turns)}
	h.queueing = time.Millisecond
	return h, v
}

func (v *held) Namespace(name string) (map[string]string, map[string]string, bool) {
	v.asked <- struct{}{}
	<-v.released
	return v.view.Namespace(name)
}

// large is a pod whose review is a large one, though nothing of it is wrong.
func large() *corev1.Pod {
	pod := newPod(asking)
	pod.Annotations = map[string]string{"redis-tls/host": "redis-a.example.com", "example.com/notes": strings.Repeat("n", smallBody)}
	return pod
}

func TestReviewsBeyondTheTurnsAreToldToComeAgain(t *testing.T) {
	c := catalog.Open(t)
	h, v := hold(t, 1)
	answers := make(chan *httptest.ResponseRecorder, 2)
	for _, pod := range []*corev1.Pod{newPod(asking), large()} {
		go func() { answers <- post(h, newReview(t, pod)) }()
		<-v.asked // it has its turn
	}
	for name, pod := range map[string]*corev1.Pod{"a small review": newPod(asking), "a large review": large()} {
		beyond := make(chan *httptest.ResponseRecorder, 1)
		go func() { beyond <- post(h, newReview(t, pod)) }()
		select {
		case w := <-beyond:
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" {
				t.Errorf("got %d with %v, want 503 with Retry-After", w.Code, w.Header())
			}
			c.Add(name, strings.TrimSpace(w.Body.String()))
		case <-v.asked:
			close(v.released)
			t.Fatal("one beyond the turns is decided")
		}
	}
	if got := testutil.ToFloat64(h.metrics.total.WithLabelValues("refused", string(origination.ReasonOverloaded))); got != 2 {
		t.Errorf("%v are counted, want 2", got)
	}
	close(v.released)
	for range 2 {
		if response := answer(t, <-answers); !response.Allowed {
			t.Errorf("one that had its turn: %+v", response)
		}
	}
	for _, pod := range []*corev1.Pod{newPod(asking), large()} {
		if response := answer(t, post(h, newReview(t, pod))); !response.Allowed {
			t.Errorf("one that came later: %+v", response)
		}
	}
}

func TestReviewsWaitForTheirTurn(t *testing.T) {
	h, v := hold(t, 1)
	h.queueing = time.Hour
	answers := make(chan *httptest.ResponseRecorder)
	for range 3 {
		go func() { answers <- post(h, newReview(t, newPod(asking))) }()
	}
	<-v.asked
	close(v.released)
	for range 3 {
		if response := answer(t, <-answers); !response.Allowed {
			t.Errorf("got %+v", response)
		}
	}
}

func TestLargeReviewsDoNotHoldUpSmallOnes(t *testing.T) {
	h, v := hold(t, 1)
	done := make(chan *httptest.ResponseRecorder)
	go func() { done <- post(h, newReview(t, large())) }()
	<-v.asked
	h.injector.View = &view{}
	if response := answer(t, post(h, newReview(t, newPod(asking)))); !response.Allowed {
		t.Errorf("got %+v", response)
	}
	close(v.released)
	answer(t, <-done)
}

// endless is a body of which nothing comes.
type endless struct{ closed chan struct{} }

func (e endless) Read([]byte) (int, error) {
	<-e.closed
	return 0, io.ErrUnexpectedEOF
}

func TestSlowSmallBodiesTakeNobodysTurn(t *testing.T) {
	h := newHandler(t, &view{}, config.PolicyEnforce)
	h.lanes.small, h.queueing = make(lane, 1), time.Millisecond
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
	if response := answer(t, post(h, newReview(t, newPod(asking)))); !response.Allowed {
		t.Errorf("got %+v", response)
	}
	close(slow.closed)
	if code := <-ended; code != http.StatusBadRequest {
		t.Errorf("half a body is answered with %d", code)
	}
}

func TestASlowLargeBodyIsCutOff(t *testing.T) {
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

func TestALargeReviewIsNotEndedByTheDeadlineOfItsBody(t *testing.T) {
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
		response, err := http.Post(server.URL, "application/json", bytes.NewReader(newReview(t, large())))
		if err == nil {
			response.Body.Close()
		}
	}()
	ctx := <-contexts
	select {
	case <-ctx.Done():
		t.Error("the request's context has ended")
	case <-time.After(3 * h.largeRead):
	}
	close(released)
}

func TestAPanicWhileReceivingGivesTheTurnBack(t *testing.T) {
	h := newHandler(t, &view{}, config.PolicyEnforce)
	h.lanes.small, h.queueing = make(lane, 1), time.Millisecond
	works := h.injector.View
	h.injector.View = nil
	func() {
		defer func() {
			if recover() == nil {
				t.Error("want a panic, else this shows nothing")
			}
		}()
		post(h, newReview(t, newPod(asking)))
	}()
	h.injector.View = works
	if response := answer(t, post(h, newReview(t, newPod(asking)))); !response.Allowed {
		t.Errorf("got %+v", response)
	}
}

func TestOnlySoManyWaitForNamespaces(t *testing.T) {
	v := &view{}
	v.unknownFor.Store(1 << 30)
	h := newHandler(t, v, config.PolicyEnforce)
	h.wait, h.lanes.newcomers = time.Hour, make(lane, 1)
	ctx, cancel := context.WithCancel(t.Context())
	waits := make(chan struct{})
	go func() { h.awaitNamespace(ctx, "shop"); close(waits) }()
	for begun := time.Now(); len(h.lanes.newcomers) == 0; runtime.Gosched() {
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
