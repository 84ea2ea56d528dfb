package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis-tls/redis-tls/test/harness"
)

// figures are the results for one size.
type figures struct {
	filling
	restart restarted
	memory  memory
	review  times // a warm review, sent to the replica directly
	// creation is a pod through the API server with all calls of an admission, as a dry run.
	creation times
	calls    calls // during both
	// requested and answered are the first uses of new namespaces at once. They start at the request for the pod and at
	// the API server's answer, and end when it has accepted the pod's objects.
	requested, answered times
	// bare is requested for a client that makes the same objects as fast as it can, without the webhook. The two take
	// turns for some rounds.
	bare  times
	spent spent // during the first uses
}

// rounds is how often the first uses and the bare client take turns.
const rounds = 3

// spent is where the time of the controller goes: passes in the queue and at work, and calls at the API server.
type spent struct {
	passes       float64
	queued, work float64 // seconds, of all passes
	calls        calls
	serving      time.Duration // of all calls, by the API server
}

// restarted is a start of the replica with all objects in place.
type restarted struct {
	ready time.Duration // it answers
	again time.Duration // as the leader it has reconciled every namespace
	calls calls         // until then
}

// memory is the replica's, bytes.
type memory struct {
	heap int64 // in use after garbage collection
	rss  int64
	peak int64 // the highest rss since the start
}

// figures fills from one size to the other, and measures.
func (c *cluster) figures(ctx context.Context, have, want filling, s sizes) (f figures, err error) {
	c.progress("%s", want)
	if have != want {
		if err := c.fill(ctx, have, want); err != nil {
			return f, err
		}
	}
	f.filling = want
	c.progress("a restart")
	if f.restart, err = c.restart(ctx); err != nil {
		return f, fmt.Errorf("restarting: %w", err)
	}
	if f.memory, err = c.memory(ctx, want.String()); err != nil {
		return f, err
	}
	begin, err := c.audit.now()
	if err != nil {
		return f, err
	}
	c.progress("%d reviews, %d pods as dry runs", s.reviews, s.creations)
	if f.review, err = c.reviews(ctx, s.reviews, s.reviewRate, want); err != nil {
		return f, fmt.Errorf("sending reviews: %w", err)
	}
	if f.creation, err = c.creations(ctx, s.creations, want); err != nil {
		return f, fmt.Errorf("creating pods as dry runs: %w", err)
	}
	if f.calls, err = c.audit.since(begin); err != nil {
		return f, err
	}
	for range rounds {
		if err := c.race(ctx, s.atOnce, &f); err != nil {
			return f, err
		}
	}
	return f, nil
}

// race measures first uses, and then the bare client.
func (c *cluster) race(ctx context.Context, n int, f *figures) error {
	c.progress("the first use of %d namespaces at once", n)
	begin, err := c.audit.now()
	if err != nil {
		return err
	}
	before, err := c.webhook.Metrics(ctx)
	if err != nil {
		return err
	}
	requested, answered, err := c.firstUses(ctx, n)
	if err != nil {
		return fmt.Errorf("first uses: %w", err)
	}
	f.requested, f.answered = append(f.requested, requested...), append(f.answered, answered...)
	after, err := c.webhook.Metrics(ctx)
	if err != nil {
		return err
	}
	grown := func(metric string) float64 { return sum(after, metric) - sum(before, metric) }
	f.spent = spent{
		passes: grown("controller_runtime_reconcile_time_seconds_count"),
		work:   grown("controller_runtime_reconcile_time_seconds_sum"),
		queued: grown("workqueue_queue_duration_seconds_sum"),
	}
	if f.spent.calls, f.spent.serving, err = c.audit.served(begin); err != nil {
		return err
	}
	c.progress("a bare client in %d namespaces at once", n)
	bare, err := c.bare(ctx, n)
	if err != nil {
		return fmt.Errorf("a bare client: %w", err)
	}
	f.bare = append(f.bare, bare...)
	return nil
}

// restart stops the replica, starts it again, and waits until it is the leader and has reconciled all namespaces.
func (c *cluster) restart(ctx context.Context) (r restarted, err error) {
	if err := c.webhook.Stop(ctx); err != nil {
		return r, err
	}
	m, err := c.audit.now()
	if err != nil {
		return r, err
	}
	if r.ready, r.again, err = c.lead(ctx); err != nil {
		return r, err
	}
	if r.calls, err = c.audit.since(m); err != nil {
		return r, err
	}
	return r, c.plane.WaitForAdmission(ctx, c.release)
}

// lead starts the replica and waits until it is the leader and has reconciled all namespaces. It returns the times to
// readiness and to the last pass.
func (c *cluster) lead(ctx context.Context) (ready, again time.Duration, err error) {
	begin := time.Now()
	if err := c.webhook.Start(ctx); err != nil {
		return 0, 0, err
	}
	ready = time.Since(begin)
	var passes float64
	var since time.Time // when the number of passes was the same
	err = harness.Eventually(ctx, 5*time.Minute, "the leader to reconcile all namespaces",
		func(ctx context.Context) error {
			text, err := c.webhook.Metrics(ctx)
			if err != nil {
				return err
			}
			leader, seen, queued := sum(text, "leader_election_master_status"), sum(
				text, "controller_runtime_reconcile_total",
			), sum(text, "workqueue_depth")
			if leader < 1 || seen < float64(c.served) || queued > 0 {
				return fmt.Errorf("leader %g, reconciled %g of %d, %g in the queue", leader, seen, c.served, queued)
			}
			if seen != passes {
				passes, since = seen, time.Now()
			}
			if time.Since(since) < time.Second { // a sweep can be due
				return fmt.Errorf("there were %g passes so far", seen)
			}
			return nil
		})
	return ready, since.Sub(begin), err
}

// memory measures the replica's memory, and keeps a profile of the heap if a directory is given.
func (c *cluster) memory(ctx context.Context, what string) (m memory, err error) {
	var text string
	for range 2 { // pools are freed by the second collection
		if text, err = c.webhook.Profile(ctx, "heap?gc=1&debug=1"); err != nil {
			return m, err
		}
	}
	if m.heap, err = field(text, "# HeapAlloc = "); err != nil {
		return m, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.webhook.Pid()))
	if err != nil {
		return m, err
	}
	if m.rss, err = field(string(status), "VmRSS:"); err != nil {
		return m, err
	}
	if m.peak, err = field(string(status), "VmHWM:"); err != nil {
		return m, err
	}
	m.rss, m.peak = m.rss<<10, m.peak<<10 // the kernel says kB and means KiB
	c.progress("%s: heap %s, RSS %s, peak %s", what, mebibytes(m.heap), mebibytes(m.rss), mebibytes(m.peak))
	if c.profiles == "" {
		return m, nil
	}
	profile, err := c.webhook.Profile(ctx, "heap")
	if err != nil {
		return m, err
	}
	return m, os.WriteFile(filepath.Join(c.profiles, strings.ReplaceAll(what, " ", "-")+".pprof"), []byte(profile), 0o644)
}
