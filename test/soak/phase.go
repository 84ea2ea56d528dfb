package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
	"github.com/redis-tls/redis-tls/test/soak/verdict"
)

// recovery is how long after a fault everything may take to be right.
const recovery = time.Minute

// phase is the time of one fault. Its pods go to namespaces of its own, so that what became of them can be
// judged while the next fault goes on.
type phase struct {
	fault
	index int
	// pending counts pods that have no answer yet, or whose objects have not come.
	pending atomic.Int64
}

func (p *phase) begin() { p.pending.Add(1) }
func (p *phase) end()   { p.pending.Add(-1) }

func (p *phase) namespace(place string) string { return fmt.Sprintf("soak-%d-%s", p.index, place) }

// prepare makes the namespaces of the phase.
func (s *soak) prepare(ctx context.Context, p *phase) error {
	for place, meta := range places {
		if err := s.Namespace(ctx, p.namespace(place), meta.Labels, meta.Annotations); err != nil {
			return err
		}
	}
	return nil
}

// suffer lets pods be created before, during and after the fault, and judges what became of them. By then the
// driver is at the next phase, where leave has led it.
func (s *soak) suffer(ctx context.Context, p *phase, leave func()) error {
	begin := time.Now()
	wait(ctx, s.form.before)
	s.say("%s", p.name)
	failed := p.inject(ctx, s)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if failed != nil { // what it has done all the same is judged
		failed = fmt.Errorf("%s: %w", p.name, failed)
		s.say("  FAILED to inject: %v", failed)
	}
	over := time.Now()
	wait(ctx, s.form.after)
	leave()
	wrong, err := s.settle(ctx, p, time.Until(over.Add(recovery)), s.overdue)
	if err != nil {
		return errors.Join(failed, err)
	}
	s.after.abandon(p)
	s.tally.AddWrong(p.name, len(wrong))
	for _, w := range wrong {
		s.say("  WRONG a minute after: %s", w)
	}
	s.say("  over after %s, right %s after that", over.Sub(begin).Round(time.Second), time.Since(over).Round(time.Second))
	return failed
}

// settle waits until no pod of the phase is pending and nothing is wrong in any namespace up to now, and
// returns what still is when the time has passed.
func (s *soak) settle(
	ctx context.Context, p *phase, within time.Duration, overdue func(metav1.Object) bool,
) (wrong []string, err error) {
	last := harness.Eventually(ctx, within, "all to be right", func(ctx context.Context) error {
		now, err := s.wrong(ctx, p.index, overdue)
		if err != nil {
			return err
		}
		if wrong = now; len(wrong) > 0 {
			return fmt.Errorf("%d are wrong: %s", len(wrong), wrong[0])
		}
		if pending := p.pending.Load(); pending > 0 {
			return fmt.Errorf("%d pods are pending", pending)
		}
		return nil
	})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if last != nil {
		s.say("  %v", last)
		if len(wrong) == 0 && p.pending.Load() == 0 { // it could not even be looked at
			wrong = []string{last.Error()}
		}
		return wrong, nil
	}
	return nil, nil
}

// wrong compares all namespaces of the phases up to that one.
func (s *soak) wrong(ctx context.Context, index int, overdue func(metav1.Object) bool) (wrong []string, err error) {
	for _, p := range s.phases[:index+1] {
		for place := range places {
			if place == "quiet" {
				continue
			}
			var pods corev1.PodList
			namespace := p.namespace(place)
			if err := s.Client.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
				return nil, err
			}
			n, err := objectsOf(ctx, s.Client, namespace)
			if err != nil {
				return nil, err
			}
			for i := range pods.Items {
				n.Pods = append(n.Pods, &pods.Items[i])
			}
			wrong = append(wrong, verdict.Wrong(n, s.cfg, overdue)...)
		}
	}
	return wrong, nil
}

// overdue reports whether an object that no pod asks for should have been deleted by now.
func (s *soak) overdue(o metav1.Object) bool {
	unused, ok := s.after.unused(o.GetNamespace(), o.GetName())
	if !ok {
		unused = time.Since(o.GetCreationTimestamp().Time)
	}
	return unused > s.form.grace+s.form.delay+recovery
}
