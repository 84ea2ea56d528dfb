package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// peer is a webhook that answers reviews.
type peer struct {
	name    string
	process *harness.Process
	*endpoint
	pod, review []byte
	check       check

	mu      sync.Mutex
	checked [][]byte // answers that are right
}

const namespace = "shop"

// prepare gives Kyverno policies that make the changes of the webhook, and returns all peers, the webhook first.
func prepare(ctx context.Context, b *bed.Bed, k *kyverno) ([]*peer, error) {
	if err := b.Namespace(ctx, namespace, map[string]string{"istio-injection": "enabled"}, nil); err != nil {
		return nil, err
	}
	ours := &peer{name: "redis-tls", process: b.Webhook.Process}
	var err error
	if ours.endpoint, err = findEndpoint(ctx, b.Client, "00-redis-tls", ""); err != nil {
		return nil, err
	}
	if ours.pod, err = json.Marshal(owned(requesting(namespace))); err != nil {
		return nil, err
	}
	if ours.review, err = reviewOf(namespace, ours.pod); err != nil {
		return nil, err
	}
	answer, err := settled(ctx, b, ours)
	if err != nil {
		return nil, err
	}
	injected, err := patched(ours.pod, answer)
	if err != nil {
		return nil, err
	}
	volumes, _, err := requested(injected)
	if err != nil || len(volumes) == 0 {
		return nil, fmt.Errorf("the webhook adds no volume to the sidecar of %s: %w", injected, err)
	}
	ours.check = same(injected)
	policies, err := kyvernoPeers(ctx, b, k, ours, answer)
	if err != nil {
		return nil, err
	}
	istio, err := istioPeer(ctx, b, injected)
	if err != nil {
		return nil, err
	}
	return append(append([]*peer{ours}, policies...), istio), nil
}

// settled creates a pod, and returns the answer to the review once its objects exist. Until then each answer has the
// time of the first use.
func settled(ctx context.Context, b *bed.Bed, ours *peer) (answer []byte, err error) {
	if err := b.Client.Create(ctx, requesting(namespace)); err != nil {
		return nil, err
	}
	return answer, harness.Eventually(ctx, time.Minute, "equal answers", func(ctx context.Context) error {
		last := answer
		if answer, err = ours.send(ctx, ours.review); err == nil && !bytes.Equal(last, answer) {
			err = fmt.Errorf("an answer is %s, the one before is %s", answer, last)
		}
		return err
	})
}

// kyvernoPeers applies the policies, one at a time, and waits until their answers are right.
func kyvernoPeers(ctx context.Context, b *bed.Bed, k *kyverno, ours *peer, answer []byte) ([]*peer, error) {
	patch, err := patchOf(answer)
	if err != nil {
		return nil, err
	}
	var operations []operation
	if err := json.Unmarshal(patch, &operations); err != nil {
		return nil, err
	}
	var peers []*peer
	for _, p := range []struct{ name, policy, path string }{
		{"Kyverno, MutatingPolicy", mutatingPolicy(operations), "/mpol"},
		{"Kyverno, ClusterPolicy", clusterPolicy(operations), " /mutate"},
	} {
		progress("%s", p.name)
		next := &peer{name: p.name, process: k.admission, pod: ours.pod, review: ours.review, check: ours.check}
		err := k.apply(ctx, p.name+" to inject", p.policy, func(ctx context.Context) (err error) {
			if next.endpoint, err = findEndpoint(ctx, b.Client, resourceWebhook, p.path); err != nil {
				return err
			}
			return next.ask(ctx)
		})
		if err != nil {
			return nil, err
		}
		peers = append(peers, next)
	}
	return peers, nil
}

// istioPeer is Istio's injector. The API server sends it the pod with the changes of the webhook, or of Kyverno.
func istioPeer(ctx context.Context, b *bed.Bed, injected []byte) (*peer, error) {
	p := &peer{name: "Istio's sidecar injector", process: b.Istiod, pod: injected, check: sidecar(injected)}
	var err error
	if p.endpoint, err = findEndpoint(ctx, b.Client, "istio-sidecar-injector", "namespace."); err != nil {
		return nil, err
	}
	p.review, err = reviewOf(namespace, injected)
	return p, err
}

// ask sends one review and checks the answer.
func (p *peer) ask(ctx context.Context) error {
	answer, err := p.send(ctx, p.review)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, right := range p.checked {
		if bytes.Equal(right, answer) {
			return nil
		}
	}
	got, err := patched(p.pod, answer)
	if err == nil {
		err = p.check(got)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	if len(p.checked) < 100 { // the order of a patch may vary
		p.checked = append(p.checked, answer)
	}
	return nil
}

// sample is what a peer did in one round.
type sample struct {
	answers int
	elapsed time.Duration
	// processor is the time of the peer's process, without that of the sender.
	processor time.Duration
}

func (s sample) perSecond() float64 { return float64(s.answers) / s.elapsed.Seconds() }
func (s sample) perAnswer() float64 { return float64(s.processor) / float64(s.answers) }

// reviews measures all peers in each round, and begins each round with another one.
func reviews(ctx context.Context, peers []*peer, o options) ([]measured, error) {
	all := make([]measured, len(peers))
	for i, p := range peers {
		all[i].name = p.name
		if _, err := p.measure(ctx, time.Second); err != nil { // connections and caches
			return nil, err
		}
	}
	for round := range o.rounds {
		progress("round %d of %d", round+1, o.rounds)
		for i := range peers {
			n := (round + i) % len(peers)
			s, err := peers[n].measure(ctx, o.duration)
			if err != nil {
				return nil, err
			}
			all[n].samples = append(all[n].samples, s)
		}
	}
	return all, nil
}

// measure sends reviews over all connections, each as soon as the last one is answered.
func (p *peer) measure(ctx context.Context, d time.Duration) (s sample, err error) {
	before, err := processorTime(p.process.Pid())
	if err != nil {
		return s, err
	}
	begin := time.Now()
	var answers atomic.Int64
	errs := make([]error, connections)
	var all sync.WaitGroup
	for i := range connections {
		all.Go(func() {
			for errs[i] == nil && time.Since(begin) < d {
				errs[i] = p.ask(ctx)
				answers.Add(1)
			}
		})
	}
	all.Wait()
	s.answers, s.elapsed = int(answers.Load()), time.Since(begin)
	after, err := processorTime(p.process.Pid())
	s.processor = after - before
	return s, errors.Join(append(errs, err)...)
}

// processorTime returns the processor time of a process so far, exact to a hundredth of a second.
func processorTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStat(string(text))
}

// parseStat reads utime and stime, the fields 14 and 15. The second field is the command in parentheses, which may have
// spaces.
func parseStat(text string) (time.Duration, error) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/PID/stat has too few fields: %q", text)
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/PID/stat: %w", err)
		}
		ticks += n
	}
	const perSecond = 100 // USER_HZ, the same on all architectures of Go
	return time.Duration(ticks) * time.Second / perSecond, nil
}
