// Command scale fills a real control plane with namespaces and pods, and prints the cost for a replica of the webhook:
// its start, its memory, its answers, the first use of a Redis, and calls of the API server. It measures the same with
// few namespaces in the same run, so that growth with the cluster is a ratio, whatever the machine.
//
// Every pod goes through the real kube-apiserver, its admission and the webhook, with a stand-in for Istio's injector.
// Only kubelets, schedulers and, after the filling has begun, kube-controller-manager are missing. There are no
// assertions about time. report.go has what must hold at any size, and the package's test runs a small form.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// sizes are the numbers of all objects.
type sizes struct {
	few, many filling
	// plain are objects that must cost nothing: namespaces and pods that request nothing, and this many Secrets and
	// ConfigMaps each.
	plain   filling
	objects int
	// atOnce is the number of new namespaces that have their first pod at the same time.
	atOnce int
	// reviews are sent directly to the replica, at reviewRate per second, and creations through the API server, as dry
	// runs.
	reviews, reviewRate, creations int
}

// filling has the numbers of namespaces and of the pods in all of them.
type filling struct{ namespaces, pods int }

func (f filling) String() string { return fmt.Sprintf("%d namespaces, %d pods", f.namespaces, f.pods) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	s := sizes{
		few:        filling{100, 500},
		plain:      filling{namespaces: 1000},
		objects:    5000,
		reviews:    4000,
		reviewRate: 200,
		creations:  1000,
	}
	o := options{progress: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
	}}
	flag.IntVar(&s.many.namespaces, "namespaces", 10_000, "namespaces with injected pods")
	flag.IntVar(
		&s.many.pods, "pods", 50_000, "injected pods, and the same number of pods that request nothing in other namespaces",
	)
	flag.IntVar(&s.atOnce, "at-once", 200, "new namespaces that have their first pod at the same moment")
	flag.BoolVar(&o.streaming, "streaming", true, "let the API server stream initial lists (its feature WatchList)")
	flag.StringVar(&o.webhook, "webhook", "", "path of a built cmd/webhook; default: built from this tree")
	flag.StringVar(&o.profiles, "profiles", "", "directory for profiles of the replica's heap; default: none")
	flag.Parse()
	s.plain.pods = s.many.pods
	r, err := measure(ctx, s, o)
	if err == nil {
		r.print(os.Stdout)
		err = r.check()
	}
	switch {
	case ctx.Err() != nil: // interrupted; the harness has cleaned up
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "\nscale:", err)
		os.Exit(1)
	}
}

// measure fills a control plane step by step and measures at each.
func measure(ctx context.Context, s sizes, o options) (r *report, err error) {
	c, err := start(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if stopped := c.close(); err == nil {
			err = stopped
		}
	}()
	r = &report{sizes: s}
	if _, err := c.restart(ctx); err != nil {
		return nil, err
	}
	if r.empty, err = c.memory(ctx, "empty"); err != nil {
		return nil, err
	}
	for _, step := range []struct {
		growth
		fill func(context.Context) error
	}{
		{
			growth{what: "namespaces that request nothing", pieces: s.plain.namespaces, most: mostOfANamespace},
			func(ctx context.Context) error { return c.namespaces(ctx, "plain", 0, s.plain.namespaces, nil) },
		},
		{
			growth{what: "pods that request nothing", pieces: s.plain.pods, most: nothing},
			func(ctx context.Context) error { return c.plainPods(ctx, s.plain) },
		},
		{
			growth{what: "Secrets and ConfigMaps", pieces: 2 * s.objects, most: nothing},
			func(ctx context.Context) error { return c.objects(ctx, s.objects, s.plain.namespaces) },
		},
	} {
		if err := r.grow(ctx, c, step.growth, step.fill); err != nil {
			return nil, err
		}
	}
	if r.few, err = c.figures(ctx, filling{}, s.few, s); err != nil {
		return nil, fmt.Errorf("with %s: %w", s.few, err)
	}
	c.progress("%d more injected pods", s.many.pods-s.few.pods)
	begin := time.Now()
	if err := c.fill(ctx, s.few, s.many); err != nil {
		return nil, fmt.Errorf("filling: %w", err)
	}
	// From restart to restart, without what the replica keeps of the filling itself (Events for some minutes).
	injected := growth{
		what:   "injected pods with their namespaces and objects",
		pieces: s.many.pods - s.few.pods + rounds*s.atOnce,
		most:   mostOfAPod,
		took:   time.Since(begin),
	}
	if r.many, err = c.figures(ctx, s.many, s.many, s); err != nil {
		return nil, fmt.Errorf("with %s: %w", s.many, err)
	}
	injected.bytes = r.many.memory.heap - r.few.memory.heap
	r.growth = append(r.growth, injected)
	return r, nil
}

// grow measures the growth of the replica's memory by this many pieces.
func (r *report) grow(ctx context.Context, c *cluster, g growth, fill func(context.Context) error) error {
	before, err := c.memory(ctx, "before "+g.what)
	if err != nil {
		return err
	}
	c.progress("%d %s", g.pieces, g.what)
	begin := time.Now()
	if err := fill(ctx); err != nil {
		return fmt.Errorf("making %d %s: %w", g.pieces, g.what, err)
	}
	g.took = time.Since(begin)
	after, err := c.memory(ctx, "after "+g.what)
	if err != nil {
		return err
	}
	g.bytes = after.heap - before.heap
	r.growth = append(r.growth, g)
	return nil
}
