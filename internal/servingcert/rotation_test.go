package servingcert

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// mustTrust checks that API servers with each of the bundles accept every replica.
func mustTrust(t *testing.T, when string, replicas []*Rotator, now time.Time, bundles ...[]byte) {
	t.Helper()
	for i, r := range replicas {
		for j, bundle := range bundles {
			if err := handshake(t, r, bundle, now); err != nil {
				t.Errorf("%s: replica %d is not trusted by API server %d: %v", when, i, j, err)
			}
		}
	}
}

func leafOf(r *Rotator) []byte { return r.serving.Load().tls.Certificate[0] }

// TestNewCAIsServedAfterThePropagationDelay has an API server that sees the configuration just before the delay is
// over.
func TestNewCAIsServedAfterThePropagationDelay(t *testing.T) {
	w := newWorld(secret(), newConfiguration())
	one, two := w.replica(t, w), w.replica(t, w)
	both := []*Rotator{one, two}
	mustReconcile(t, one)
	mustReconcile(t, two)
	late, before := w.bundles(t)[0], leafOf(one)

	w.put(t, nil) // has all created again
	mustReconcile(t, one)
	written := w.secret(t).ResourceVersion
	mustReconcile(t, two)
	if w.secret(t).ResourceVersion != written {
		t.Error("the second replica wrote the Secret again")
	}
	mustTrust(t, "at once", both, w.now, late, w.bundles(t)[0])

	w.now = w.now.Add(DefaultPropagationDelay - time.Second)
	wait, err := one.reconcile(t.Context())
	if err != nil || wait != time.Second {
		t.Errorf("waits for %s (%v), want the remaining second", wait, err)
	}
	mustReconcile(t, two)
	mustTrust(t, "before the end of the delay", both, w.now, late, w.bundles(t)[0])

	w.now = w.now.Add(time.Second)
	mustReconcile(t, one)
	if bytes.Equal(leafOf(one), before) {
		t.Error("the new certificate is not served")
	}
	mustTrust(t, "when one replica serves the new certificate", both, w.now, w.bundles(t)[0])
	mustReconcile(t, two)
	mustTrust(t, "when both serve it", both, w.now, w.bundles(t)[0])
	if !bytes.Equal(leafOf(one), leafOf(two)) {
		t.Error("the replicas serve different certificates")
	}
}

func TestNewLeafOfTheSameCAIsServedAtOnce(t *testing.T) {
	w := newWorld(secret(), newConfiguration())
	r := w.replica(t, w)
	mustReconcile(t, r)
	before, trusted := leafOf(r), w.version(t)
	w.now = w.now.Add(time.Hour)
	data := w.secret(t).Data
	delete(data, keyCert)
	w.put(t, data)
	mustReconcile(t, r)
	if bytes.Equal(leafOf(r), before) {
		t.Error("the old leaf is served")
	}
	if w.version(t) != trusted {
		t.Error("the configuration was written for a new leaf of a CA that it contains")
	}
}

func TestPropagationDelayRestartsWhenTheBundleIsOverwritten(t *testing.T) {
	w := newWorld(secret(), newConfiguration())
	r := w.replica(t, w)
	mustReconcile(t, r)
	before, former := leafOf(r), w.secret(t).Data[keyCA]
	w.put(t, nil)
	mustReconcile(t, r)
	w.now = w.now.Add(DefaultPropagationDelay - time.Second)
	w.trustOnly(t, former)
	mustReconcile(t, r)
	w.now = w.now.Add(time.Second)
	mustReconcile(t, r)
	if !bytes.Equal(leafOf(r), before) {
		t.Error("serves under a CA that was in the configuration for a second")
	}
	w.now = w.now.Add(DefaultPropagationDelay)
	mustReconcile(t, r)
	if bytes.Equal(leafOf(r), before) {
		t.Error("the new certificate is not served")
	}
}

func TestExpiredCertificateIsReplacedAtOnce(t *testing.T) {
	w := newWorld(secret(), newConfiguration())
	r := w.replica(t, w)
	mustReconcile(t, r)
	before, end := leafOf(r), r.serving.Load().until
	w.now = end.Add(-time.Minute)
	w.put(t, nil)
	if wait, err := r.reconcile(t.Context()); err != nil || wait != time.Minute {
		t.Errorf("waits for %s (%v), want the minute until the end", wait, err)
	}
	w.now = end
	mustReconcile(t, r)
	if bytes.Equal(leafOf(r), before) {
		t.Error("serves an expired certificate")
	}
}

// TestReplicaThatStartsWithANewCAWaits has a replica that starts during a change of CAs, with only the new certificate.
func TestReplicaThatStartsWithANewCAWaits(t *testing.T) {
	w := newWorld(secret(), newConfiguration())
	mustReconcile(t, w.replica(t, w))
	w.put(t, nil)
	r := w.replica(t, w)
	mustReconcile(t, r)
	if r.Ready(nil) == nil {
		t.Error("ready at once, while others serve under the previous CA")
	}
	w.now = w.now.Add(readyDelay)
	if err := r.Ready(nil); err != nil {
		t.Errorf("not ready after the delay: %v", err)
	}
	next := w.replica(t, w)
	mustReconcile(t, next)
	if err := next.Ready(nil); err != nil {
		t.Errorf("a later replica, whose CA is in the configuration, is not ready: %v", err)
	}
}

func TestMissingSecretIsCreatedAgain(t *testing.T) {
	w := newWorld(secret(), newConfiguration())
	r := w.replica(t, w)
	mustReconcile(t, r)
	before, trusted := leafOf(r), w.bundles(t)[0]
	if err := w.Delete(t.Context(), secret()); err != nil {
		t.Fatal(err)
	}
	if err := reconcile(t, r); !errors.Is(err, errBehind) {
		t.Fatalf("got %v, want the event to fill the Secret", err)
	}
	if !bytes.Equal(leafOf(r), before) || r.Ready(nil) != nil {
		t.Error("the served certificate was given up")
	}
	mustReconcile(t, r)
	mustTrust(t, "after the Secret was filled", []*Rotator{r}, w.now, trusted, w.bundles(t)[0])
	if _, err := parse(t, w.secret(t).Data, w.now); err != nil {
		t.Errorf("the Secret was not filled: %v", err)
	}
}

func TestSecretIsNotCreatedDuringUninstall(t *testing.T) {
	w := newWorld(secret(), newConfiguration())
	r := w.replica(t, w)
	mustReconcile(t, r)
	for _, o := range []client.Object{secret(), newConfiguration()} {
		if err := w.Delete(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if err := reconcile(t, r); err == nil || errors.Is(err, errBehind) {
		t.Errorf("got %v", err)
	}
	if err := w.Get(t.Context(), client.ObjectKeyFromObject(secret()), secret()); err == nil {
		t.Error("the Secret exists")
	}
}

func TestRestoredConfigurationIsPatchedAtOnce(t *testing.T) {
	w := newWorld(secret(), newConfiguration())
	r := w.replica(t, w)
	mustReconcile(t, r)
	if err := w.Delete(t.Context(), newConfiguration()); err != nil {
		t.Fatal(err)
	}
	if err := reconcile(t, r); err == nil {
		t.Error("no error without the configuration")
	}
	if err := r.Ready(nil); err != nil {
		t.Errorf("not ready, so the restored configuration would have no endpoint: %v", err)
	}
	if err := w.Create(t.Context(), newConfiguration()); err != nil {
		t.Fatal(err)
	}
	mustReconcile(t, r)
	mustTrust(t, "with the new configuration", []*Rotator{r}, w.now, w.bundles(t)...)
}
