package cluster

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// These tests prove when the API server is queried for the kinds of Istio and cert-manager, and what waits for its
// answer.

// answers is what a fake API server answers in a second.
type answers func(second int) (served bool, err error)

func absent(int) (bool, error) { return false, nil }

// discoveries runs a watch for a time, and returns the seconds at which it queries the API server. The function begun,
// if it is not nil, is called at the start.
func discoveries(t *testing.T, longest, within time.Duration, answer answers, begun func(*crdWatch)) []int {
	t.Helper()
	var seconds []int
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		w := &crdWatch{clock: clock.RealClock{}, maxPause: longest, poke: make(chan struct{}, 1), resynced: func() {}}
		w.served = func(context.Context) (bool, error) {
			second := int(time.Since(start).Seconds())
			seconds = append(seconds, second)
			return answer(second)
		}
		ctx, cancel := context.WithTimeout(logf.IntoContext(t.Context(), logr.Discard()), within)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- w.Start(ctx) }()
		if begun != nil {
			begun(w)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return seconds
}

func TestDiscoveryOfAbsentKindsBacksOff(t *testing.T) {
	for name, tc := range map[string]struct {
		longest, within time.Duration
		answer          answers
		want            []int
	}{
		"Istio's": {
			longest: maxIstioPause,
			within:  125 * time.Second,
			answer:  absent,
			want:    []int{0, 2, 6, 14, 30, 60, 90, 120},
		},
		"cert-manager's": {
			longest: maxCertManagerPause,
			within:  1200 * time.Second,
			answer:  absent,
			want:    []int{0, 2, 6, 14, 30, 62, 126, 254, 510, 810, 1110},
		},
		"those of an API server that does not answer": {
			longest: maxCertManagerPause,
			within:  100 * time.Second,
			answer: func(int) (bool, error) {
				return false, errors.New("the server is currently unable to handle the request")
			},
			want: []int{0, 2, 6, 14, 30, 62},
		},
		"those that were served, soon after they have vanished": {
			longest: maxCertManagerPause,
			within:  150 * time.Second,
			answer:  func(second int) (bool, error) { return second >= 30 && second < 90, nil },
			want:    []int{0, 2, 6, 14, 30, 60, 90, 92, 96, 104, 120},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, discoveries(t, tc.longest, tc.within, tc.answer, nil)); diff != "" {
				t.Errorf("discoveries at second (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPokesTriggerFewDiscoveries(t *testing.T) {
	got := discoveries(t, maxCertManagerPause, 121*time.Second, absent, func(w *crdWatch) {
		v := &View{certs: w}
		time.Sleep(100 * time.Second)
		for range 100 { // for ten seconds
			v.NeedCertManager()
			time.Sleep(100 * time.Millisecond)
		}
	})
	want := []int{0, 2, 6, 14, 30, 62, 100, 102, 104, 106, 108, 110}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("discoveries at second (-want +got):\n%s", diff)
	}
}

func TestDiscoveryEndsWithItsContext(t *testing.T) {
	hanging := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hanging }))
	defer server.Close()
	defer close(hanging)
	client, err := discovery.NewDiscoveryClientForConfigAndClient(&rest.Config{Host: server.URL}, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if served, err := discoverKinds(client, certManagerKinds)(ctx); err == nil || served {
		t.Errorf("served %t, error %v", served, err)
	}
	if ctx.Err() == nil {
		t.Error("it ended before its context")
	}
}

func TestOptionalKindsDoNotDelayReadiness(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(context.Context) (bool, error)
		down   bool // no Certificate can be listed
	}{
		"the API server answers with an error": {
			answer: func(context.Context) (bool, error) { return false, errors.New("503 Service Unavailable") },
		},
		"the API server does not answer": {
			answer: func(ctx context.Context) (bool, error) { <-ctx.Done(); return false, ctx.Err() },
		},
		"Certificates cannot be listed": {
			answer: func(context.Context) (bool, error) { return true, nil },
			down:   true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.serve(true)
			w.pods.Add(clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByIssuer))
			w.certManager = tc.answer
			w.mesh["certificates"].down.Store(tc.down)
			view := w.start()
			w.eventually("Istio's kinds", 0, view.IstioReady)
			if view.Synced() {
				t.Error("synced at once, want a short wait for an answer that comes in time")
			}
			w.eventually("the view to be synced", 100*time.Millisecond, view.Synced)
			if snap := view.Snapshot("shop"); snap.CertManager != mesh.Unknown || len(snap.Certificates) > 0 {
				t.Errorf(
					"cert-manager %d with %d Certificates; want unknown, and no pod refused for it",
					snap.CertManager,
					len(snap.Certificates),
				)
			}
		})
	}
}

func TestAllNamespacesAreNotifiedWhenCertManagerIsAbsent(t *testing.T) {
	w := newWorld(t)
	w.serve(true)
	w.pods.Add(clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByIssuer))
	answers := make(chan bool)
	w.certManager = func(ctx context.Context) (bool, error) {
		select {
		case served := <-answers:
			return served, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	view := w.start()
	w.eventually("the view to be synced", time.Second, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return view.Synced() && w.resyncs == 1 // of Istio's kinds
	})
	before := w.notifications("shop")
	answers <- false
	w.eventually("the namespace to be notified", 0, func() bool { return w.notifications("shop") > before })
	if state := view.Snapshot("shop").CertManager; state != mesh.Absent {
		t.Errorf("state %d after the answer, want absent", state)
	}
}
