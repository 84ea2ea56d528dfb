package controller

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
)

// discovered is a pod of that name and service account whose client certificate comes by secret discovery.
func discovered(t *testing.T, name, account string, more ...string) *corev1.Pod {
	annotations := map[string]string{"redis-tls/host": "redis.example.com", "redis-tls/delivery": "sds"}
	if len(more) == 0 {
		more = []string{"redis-tls/mode", "mutual", "redis-tls/client-secret", "client"}
	}
	for i := 0; i < len(more); i += 2 {
		annotations[more[i]] = more[i+1]
	}
	return clustertest.Pod(t, namespace, name, "r1", "a", annotations, func(pod *corev1.Pod) {
		pod.Spec.ServiceAccountName = account
	})
}

const denied = "Warning SecretAccessDenied on ReplicaSet cart-r1: pod cart-r1-a "

func TestServiceAccountThatMayNotListSecretsIsReported(t *testing.T) {
	const user = "system:serviceaccount:shop:cart"
	w := newWorld(t).admit(discovered(t, "cart", "cart"))
	w.pass()
	if diff := cmp.Diff([]string{user}, w.reviews); diff != "" {
		t.Errorf("reviews (-want +got):\n%s", diff)
	}
	if !w.hasEvent(denied) {
		t.Errorf("events %q, want %q", w.events, denied)
	}
	for _, step := range []struct {
		name    string
		after   time.Duration
		allowed bool
		reviews int
	}{
		{"an answer is cached", 59 * time.Second, false, 0},
		{"a denial for one minute", 2 * time.Second, true, 1},
		{"a permission for five minutes", 299 * time.Second, false, 0},
		{"but not longer", 2 * time.Second, false, 1},
	} {
		w.allowed = map[string]bool{user: step.allowed}
		w.later(step.after).pass()
		if len(w.reviews) != step.reviews {
			t.Errorf("%s: %d reviews, want %d", step.name, len(w.reviews), step.reviews)
		}
	}
	if !w.hasEvent(denied) {
		t.Errorf("events %q once the right was taken away, want %q", w.events, denied)
	}
}

func TestNoReviewWithoutADeliveredClientCertificate(t *testing.T) {
	for name, more := range map[string][]string{
		"a CA of a ConfigMap": {"redis-tls/ca-configmap", "trust"},
		"a CA of a Secret":    {"redis-tls/ca-secret", "ca"},
		"a mounted client certificate": {
			"redis-tls/delivery", "mount", "redis-tls/mode", "mutual", "redis-tls/client-secret", "client"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).admit(discovered(t, "cart", "cart", more...))
			w.pass()
			if len(w.reviews) > 0 || w.hasEvent("SecretAccessDenied") {
				t.Errorf("reviews %q, Events %q", w.reviews, w.events)
			}
		})
	}
}

func TestReviewsOfAPassAreLimited(t *testing.T) {
	w := newWorld(t)
	for i := range 20 {
		account := fmt.Sprintf("account-%d", i)
		w.admit(discovered(t, account, account), discovered(t, account+"-too", account))
	}
	seen := map[string]int{}
	for pass, want := range []int{16, 4, 0} {
		w.pass()
		if len(w.reviews) != want {
			t.Errorf("pass %d sends %d reviews, want %d", pass+1, len(w.reviews), want)
		}
		for _, user := range w.reviews {
			seen[user]++
		}
	}
	if len(seen) != 20 {
		t.Errorf("%d service accounts were reviewed, want 20", len(seen))
	}
}

func TestFailedReviewDelaysNothingElse(t *testing.T) {
	w := newWorld(t).admit(discovered(t, "cart", "cart"))
	w.fail = func(call write) error {
		if call.Kind == "SubjectAccessReview" {
			return errors.New("no answer")
		}
		return nil
	}
	writes, err := w.tryPass()
	if err == nil || len(writes) != 4 || w.hasEvent("SecretAccessDenied") {
		t.Errorf("wrote %q with error %v, and sent %q", writes, err, w.events)
	}
}
