package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/redis-tls/redis-tls/test/soak/result"
)

// Bounds of the driver. The clients of a kubelet and of a controller wait longer for an answer.
const (
	attemptTimeout   = 15 * time.Second
	unavailablePause = 250 * time.Millisecond
	mostUnavailable  = 5 * time.Minute
)

// driver creates pods at a fixed rate, whatever happens to earlier ones. A pod is created when it is due even if others
// wait for their answers, and its latency counts from then. So a pause of the server shows in all pods of that time.
type driver struct {
	clients kubernetes.Interface
	rate    int // pods per second
	// phase is the fault to which new pods count.
	phase atomic.Pointer[phase]
	after *aftermath
	// known is set while no pod may have a new key.
	known atomic.Bool
	// record is called for every pod with a final result before any objects are due.
	record func(result.Pod)
}

// run creates pods until the context ends, and returns when all current ones have their answer.
func (d *driver) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	interval := time.Second / time.Duration(d.rate)
	begin := time.Now()
	for n := 0; ; n++ {
		due := begin.Add(time.Duration(n) * interval)
		timer := time.NewTimer(time.Until(due))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		phase := d.phase.Load()
		phase.begin()
		all.Go(func() {
			defer phase.end()
			kind := &mix[n%len(mix)]
			if kind.fresh && d.known.Load() {
				kind = &mix[0]
			}
			d.create(context.WithoutCancel(ctx), phase, kind, kind.pod(phase.namespace(kind.place), n), due)
		})
	}
}

// create creates one pod with retries, as a ReplicaSet's controller would. It returns the pod if it was admitted, and
// its outcome.
func (d *driver) create(
	ctx context.Context, phase *phase, kind *kind, want *corev1.Pod, due time.Time,
) (*corev1.Pod, result.Pod) {
	p := result.Pod{Fault: phase.name, Kind: kind.name, Namespace: want.Namespace, Name: want.Name, Due: due}
	created, err := d.persist(ctx, want, &p)
	p.Latency = time.Since(due)
	switch answer := result.Classify(err); {
	case answer == result.Denied && kind.refused != "" && strings.Contains(err.Error(), kind.refused):
		p.Outcome = result.Refused
	case answer != result.Accepted:
		p.Lose(fmt.Sprintf("%s: %v", answer, err))
	case kind.refused != "" && !kind.limited:
		p.Lose("it was admitted with a wrong request")
	default:
		p.Outcome = result.Admitted
		if touched := kind.touched(created); touched != "" {
			p.Lose(touched)
		}
	}
	if p.Outcome == result.Admitted {
		d.after.follow(phase, kind, created, p)
		return created, p
	}
	d.record(p)
	return nil, p
}

// persist retries until there is a final answer, or the bounds are reached.
func (d *driver) persist(ctx context.Context, want *corev1.Pod, p *result.Pod) (*corev1.Pod, error) {
	for begin := time.Now(); ; {
		created, err := d.attempt(ctx, want)
		answer := result.Classify(err)
		if err != nil {
			p.LastError = err.Error()
		}
		var pause time.Duration
		switch answer {
		case result.Unanswered:
			if p.Unanswered++; p.Unanswered == result.MostUnanswered {
				return nil, err
			}
			pause = result.Pause(p.Unanswered)
		case result.Unavailable:
			if p.Unavailable++; time.Since(begin) > mostUnavailable {
				return nil, err
			}
			pause = unavailablePause
		default:
			return created, err
		}
		wait(ctx, pause)
	}
}

// attempt creates the pod once. Names are never used twice, so an earlier attempt has created a pod that exists
// already.
func (d *driver) attempt(ctx context.Context, want *corev1.Pod) (*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	pods := d.clients.CoreV1().Pods(want.Namespace)
	created, err := pods.Create(ctx, want.DeepCopy(), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return pods.Get(ctx, want.Name, metav1.GetOptions{})
	}
	return created, err
}

// wait returns after the time, or when the context has ended.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
