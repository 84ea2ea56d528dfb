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
	"github.com/redis-tls/redis-tls/test/soak/result"
)

// recovery is the time after a fault by which all objects must be right.
const recovery = time.Minute

// phase is the time of one fault. Its pods have their own namespaces, so that their results can be checked during the
// next fault.
type phase struct {
	fault
	index int
	// pending counts the pods without an answer or without their objects.
	pending atomic.Int64
}

func (p *phase) begin() { p.pending.Add(1) }
func (p *phase) end()   { p.pending.Add(-1) }

func (p *phase) namespace(place string) string { return fmt.Sprintf("soak-%d-%s", p.index, place) }

// prepare creates the namespaces of the phase.
func (s *soak) prepare(ctx context.Context, p *phase) error {
	for place, meta := range places {
		if err := s.Namespace(ctx, p.namespace(place), meta.Labels, meta.Annotations); err != nil {
			return err
		}
	}
	return nil
}

// inject injects the fault while pods are created, and checks their results. By then leave has moved the driver to the
// next phase.
func (s *soak) inject(ctx context.Context, p *phase, leave func()) error {
	begin := time.Now()
	wait(ctx, s.form.before)
	s.say("%s", p.name)
	before, failed := s.running(ctx, p)
	if failed == nil {
		failed = p.inject(ctx, s)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if failed != nil { // its effects are checked all the same
		failed = fmt.Errorf("%s: %w", p.name, failed)
		s.say("  FAILED to inject: %v", failed)
	}
	over := time.Now()
	wait(ctx, s.form.after)
	leave()
	wrong, err := s.complete(ctx, p, time.Until(over.Add(recovery)), s.overdue)
	if err != nil {
		return errors.Join(failed, err)
	}
	s.after.abandon(p)
	changed, err := s.changed(ctx, before)
	if err != nil {
		return errors.Join(failed, err)
	}
	s.tally.AddChanged(p.name, len(changed))
	for _, c := range changed {
		s.say("  CHANGED: %s", c)
	}
	s.tally.AddWrong(p.name, len(wrong))
	for _, w := range wrong {
		s.say("  WRONG a minute after: %s", w)
	}
	s.say("  over after %s, right %s after that", over.Sub(begin).Round(time.Second), time.Since(over).Round(time.Second))
	return failed
}

// complete waits until no pod of the phase is pending and no object is wrong in any namespace so far. When the time has
// passed, it returns what is still wrong.
func (s *soak) complete(
	ctx context.Context, p *phase, within time.Duration, overdue func(metav1.Object) bool,
) (wrong []string, err error) {
	last := harness.Eventually(ctx, within, "all objects to be right", func(ctx context.Context) error {
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
		if len(wrong) == 0 && p.pending.Load() == 0 { // the cluster could not be read
			wrong = []string{last.Error()}
		}
		return wrong, nil
	}
	return nil, nil
}

// wrong compares all namespaces of the phases up to the index.
func (s *soak) wrong(ctx context.Context, index int, overdue func(metav1.Object) bool) (wrong []string, err error) {
	err = s.each(ctx, index, func(n result.Namespace) {
		wrong = append(wrong, result.Wrong(n, s.cfg, overdue)...)
	})
	return wrong, err
}

// each reads all namespaces with requests of the phases up to the index.
func (s *soak) each(ctx context.Context, index int, visit func(result.Namespace)) error {
	for _, p := range s.phases[:index+1] {
		for place := range places {
			if place == "quiet" {
				continue
			}
			n, err := s.namespace(ctx, p.namespace(place))
			if err != nil {
				return err
			}
			visit(n)
		}
	}
	return nil
}

// namespace reads the pods and mesh objects of a namespace.
func (s *soak) namespace(ctx context.Context, name string) (result.Namespace, error) {
	var pods corev1.PodList
	if err := s.Client.List(ctx, &pods, client.InNamespace(name)); err != nil {
		return result.Namespace{}, err
	}
	n, err := objectsOf(ctx, s.Client, name)
	for i := range pods.Items {
		n.Pods = append(n.Pods, &pods.Items[i])
	}
	return n, err
}

// running prepares the fault, and returns the pods that run before it.
func (s *soak) running(ctx context.Context, p *phase) (before []result.Namespace, err error) {
	if p.prepare != nil {
		if err := p.prepare(ctx, s); err != nil {
			return nil, err
		}
	}
	err = s.each(ctx, p.index, func(n result.Namespace) {
		n = result.Running(n, s.cfg)
		if p.deletes {
			n.Entries, n.Rules = nil, nil
		}
		before = append(before, n)
	})
	return before, err
}

// changed returns what has changed of pods that ran before the fault.
func (s *soak) changed(ctx context.Context, before []result.Namespace) (changed []string, err error) {
	for _, was := range before {
		is, err := s.namespace(ctx, was.Name)
		if err != nil {
			return nil, err
		}
		changed = append(changed, result.Changed(was, is, s.cfg)...)
	}
	return changed, nil
}

// overdue reports whether an object that no pod requests should have been deleted by now.
func (s *soak) overdue(o metav1.Object) bool {
	unused, ok := s.after.unused(o.GetNamespace(), o.GetName())
	if !ok {
		unused = time.Since(o.GetCreationTimestamp().Time)
	}
	return unused > s.form.grace+s.form.delay+recovery
}
