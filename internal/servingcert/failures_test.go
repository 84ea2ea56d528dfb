package servingcert

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func TestRenewal(t *testing.T) {
	day := 24 * time.Hour
	for _, tc := range []struct {
		name    string
		after   time.Duration
		renewed bool
	}{
		{"a new certificate stays", 10 * day, false},
		{"a certificate stays until the lookahead", 365*day - 91*day, false},
		{"within the lookahead it is renewed", 365*day - 89*day, true},
		{"an expired one is renewed", 400 * day, true},
		{"with the CA within the lookahead both are renewed", 3650*day - 10*day, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(secret(), newConfiguration())
			r := w.replica(t, w)
			mustReconcile(t, r)
			before, bundle := r.serving.Load(), w.bundles(t)[0]
			w.now = start.Add(tc.after)
			mustReconcile(t, r)
			if got := r.serving.Load() != before &&
				!bytes.Equal(r.serving.Load().tls.Certificate[0], before.tls.Certificate[0]); got != tc.renewed {
				t.Errorf("renewed: %t, want %t", got, tc.renewed)
			}
			if err := handshake(t, r, w.bundles(t)[0], w.now); err != nil {
				t.Errorf("the API server would not accept it: %v", err)
			}
			if !bytes.Contains(w.bundles(t)[0], bundle) {
				t.Error("the bundle lost the CA of other replicas")
			}
		})
	}
}

func TestFailuresKeepWhatWorks(t *testing.T) {
	refused := errors.New("refused")
	t.Run("a new certificate is not served before its CA is trusted", func(t *testing.T) {
		w := newWorld(secret(), newConfiguration())
		r := w.replica(t, w)
		mustReconcile(t, r)
		before, trusted := r.serving.Load(), w.bundles(t)[0]
		emptied := w.secret(t)
		emptied.Data = nil
		if err := w.Update(t.Context(), emptied); err != nil {
			t.Fatal(err)
		}
		w.failPatch = refused
		if err := reconcile(t, r); !errors.Is(err, refused) {
			t.Errorf("got %v", err)
		}
		if r.serving.Load() != before {
			t.Error("serves under a CA that the API server does not trust")
		}
		if err := handshake(t, r, trusted, start); err != nil {
			t.Errorf("the API server no longer accepts it: %v", err)
		}
		if err := r.Ready(nil); err != nil {
			t.Errorf("not ready with a trusted certificate: %v", err)
		}
	})
	t.Run("an expired certificate is replaced even then", func(t *testing.T) {
		w := newWorld(secret(), newConfiguration())
		r := w.replica(t, w)
		mustReconcile(t, r)
		w.now, w.failPatch = start.Add(3660*24*time.Hour), refused
		if err := reconcile(t, r); !errors.Is(err, refused) {
			t.Errorf("got %v", err)
		}
		if !r.serving.Load().validAt(w.now) {
			t.Error("still serves an expired certificate")
		}
	})
	t.Run("a valid certificate is served while it cannot be renewed", func(t *testing.T) {
		w := newWorld(secret(), newConfiguration())
		mustReconcile(t, w.replica(t, w))
		w.now, w.failPuts = start.Add(300*24*time.Hour), refused
		r := w.replica(t, w)
		if err := reconcile(t, r); !errors.Is(err, refused) {
			t.Errorf("got %v", err)
		}
		if err := r.Ready(nil); err != nil {
			t.Errorf("not ready: %v", err)
		}
	})
	t.Run("a damaged Secret is repaired and never served", func(t *testing.T) {
		w := newWorld(secret(), newConfiguration())
		r := w.replica(t, w)
		mustReconcile(t, r)
		damaged := w.secret(t)
		damaged.Data[keyPriv] = []byte("half")
		if err := w.Update(t.Context(), damaged); err != nil {
			t.Fatal(err)
		}
		w.failPuts = refused
		before := r.serving.Load()
		if err := reconcile(t, r); !errors.Is(err, refused) || r.serving.Load() != before {
			t.Errorf("got %v, or the damaged certificate is served", err)
		}
		w.failPuts = nil
		mustReconcile(t, r)
		if err := handshake(t, r, w.bundles(t)[0], start); err != nil {
			t.Errorf("not repaired: %v", err)
		}
	})
	t.Run("without the Secret or the configuration the error names it", func(t *testing.T) {
		for _, w := range []*world{newWorld(newConfiguration()), newWorld(secret())} {
			r := w.replica(t, w)
			if err := reconcile(t, r); err == nil || r.Ready(nil) == nil {
				t.Errorf("got %v, ready %v", err, r.Ready(nil))
			}
		}
	})
}
