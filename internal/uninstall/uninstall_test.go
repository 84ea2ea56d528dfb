package uninstall

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// steppingClock advances by itself whenever the code waits, and then calls waited.
type steppingClock struct {
	*clocktesting.FakeClock
	waited func(passed time.Duration)
	began  time.Time
}

func (c *steppingClock) After(d time.Duration) <-chan time.Time {
	c.Step(d)
	c.waited(c.Now().Sub(c.began))
	done := make(chan time.Time, 1)
	done <- c.Now()
	return done
}

// world is a fake cluster with the calls to it, in order.
type world struct {
	*Uninstaller
	t     *testing.T
	clock *steppingClock
	calls []string
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	w := &world{
		t: t,
		clock: &steppingClock{
			FakeClock: clocktesting.NewFakeClock(time.Unix(1_700_000_000, 0)),
			waited:    func(time.Duration) {},
		},
	}
	w.clock.began = w.clock.Now()
	backend := fake.NewClientBuilder().WithObjects(objects...).
		WithIndex(&corev1.Pod{}, "status.phase", func(o client.Object) []string {
			return []string{string(o.(*corev1.Pod).Status.Phase)}
		}).Build()
	w.Uninstaller = &Uninstaller{
		Clock: w.clock, Log: logr.Discard(), Configuration: "00-redis-tls", Gates: true, Patience: 30 * time.Second,
		Client: interceptor.NewClient(backend, interceptor.Funcs{
			Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
				w.calls = append(w.calls, "delete "+o.GetName())
				return c.Delete(ctx, o, opts...)
			},
			Patch: func(
				ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption,
			) error {
				w.calls = append(w.calls, "patch "+o.GetName())
				return c.Patch(ctx, o, p, opts...)
			},
		}),
	}
	return w
}

// gated returns an injected pod with these gates.
func gated(name string, gates ...string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop",
			Name:      name,
			UID:       types.UID(name),
			Labels:    map[string]string{"redis-tls/injected": "true"},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	for _, gate := range gates {
		p.Spec.SchedulingGates = append(p.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: gate})
	}
	return p
}

func configuration() client.Object {
	return &registrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "00-redis-tls"}}
}

func (w *world) run(wantCalls ...string) {
	w.t.Helper()
	if err := w.Run(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	if !slices.Equal(w.calls, wantCalls) {
		w.t.Errorf("got the calls %q, want %q", w.calls, wantCalls)
	}
}

func (w *world) gates(name string) (gates []string) {
	w.t.Helper()
	pod := &corev1.Pod{}
	if err := w.Client.Get(w.t.Context(), client.ObjectKey{Namespace: "shop", Name: name}, pod); err != nil {
		w.t.Fatal(err)
	}
	for _, gate := range pod.Spec.SchedulingGates {
		gates = append(gates, gate.Name)
	}
	return gates
}

func TestWaitingPodsAreFreedAfterTheWebhookIsDeleted(t *testing.T) {
	unlabelled := gated("another", "redis-tls/first-use")
	unlabelled.Labels = nil
	w := newWorld(
		t,
		configuration(),
		unlabelled,
		gated("waits", "example.com/quota", "redis-tls/first-use"),
		gated("waits-for-others", "example.com/quota"),
		gated("starts"),
	)
	w.run("delete 00-redis-tls", "patch waits")
	if got := w.gates("waits"); !slices.Equal(got, []string{"example.com/quota"}) {
		t.Errorf("the pod has the gates %q, want that of others", got)
	}
	if passed := w.clock.Now().Sub(w.clock.began); passed < w.Patience {
		t.Errorf("the controller had %s to free it, want %s", passed, w.Patience)
	}
}

func TestControllerHasTimeToFreePods(t *testing.T) {
	w := newWorld(t, configuration(), gated("waits", "redis-tls/first-use"))
	w.clock.waited = func(passed time.Duration) {
		if passed != 20*time.Second {
			return
		}
		pod := gated("waits")
		if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
			t.Fatal(err)
		}
		pod.Spec.SchedulingGates = nil
		if err := w.Client.Update(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
	}
	w.run("delete 00-redis-tls")
}

func TestPodCreatedAfterTheDeletionIsFreed(t *testing.T) {
	w := newWorld(t, configuration())
	w.Patience = 0
	w.clock.waited = func(passed time.Duration) {
		if passed == 5*time.Second {
			if err := w.Client.Create(t.Context(), gated("late", "redis-tls/first-use")); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.run("delete 00-redis-tls", "patch late")
}

func TestWithoutTheConfigurationAndWithoutGates(t *testing.T) {
	w := newWorld(t, gated("waits", "redis-tls/first-use"))
	w.Gates = false
	w.run("delete 00-redis-tls")
}

func TestDeletedPodIsNoError(t *testing.T) {
	w := newWorld(t, configuration(), gated("waits", "redis-tls/first-use"))
	w.Patience = 0
	w.Client = interceptor.NewClient(w.Client.(client.WithWatch), interceptor.Funcs{
		Patch: func(
			ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption,
		) error {
			if err := c.Delete(ctx, o); err != nil {
				t.Fatal(err)
			}
			return c.Patch(ctx, o, p, opts...)
		},
	})
	w.run("delete 00-redis-tls", "delete waits", "patch waits")
}

func TestPodThatCannotBeFreedIsNamed(t *testing.T) {
	w := newWorld(t, configuration(), gated("waits", "redis-tls/first-use"))
	w.Patience = 0
	w.Client = interceptor.NewClient(w.Client.(client.WithWatch), interceptor.Funcs{
		Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
			return apierrors.NewForbidden(corev1.Resource("pods"), "waits", nil)
		},
	})
	if err := w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "pod shop/waits") {
		t.Errorf("got %v", err)
	}
}

func TestInterruptionReportsTheNumberOfWaitingPods(t *testing.T) {
	w := newWorld(t, configuration(), gated("waits", "redis-tls/first-use"))
	ctx, cancel := context.WithCancel(t.Context())
	w.clock.waited = func(time.Duration) { cancel() }
	if err := w.Run(ctx); err == nil || !strings.HasPrefix(err.Error(), "1 pods") {
		t.Errorf("got %v", err)
	}
}
