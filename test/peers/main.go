// Command peers compares the webhook with what a team would use without it: Kyverno's policies, and Istio's own sidecar
// injector. All are real processes at one real control plane, installed by their charts.
//
// [reviews] sends the same review of a pod to each, in rounds that alternate, and compares the processor time of the
// servers and their answers per second. An answer counts only if it injects the same; see [check]. [firstUses] compares
// the time from the request for a pod until the API server has accepted the pod's mesh objects with that of Kyverno's
// generate policies. It needs root, as the e2e tests do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
)

// options are the flags.
type options struct {
	webhook, kyverno string
	rounds           int
	duration         time.Duration
	namespaces, uses int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var o options
	flag.StringVar(&o.webhook, "webhook", "", "path of a built cmd/webhook; default: built from this tree")
	flag.StringVar(&o.kyverno, "kyverno", "", "directory that test/peers/kyverno/build.sh has made")
	flag.IntVar(&o.rounds, "rounds", 6, "rounds of reviews")
	flag.DurationVar(&o.duration, "duration", 4*time.Second, "time for each peer in a round of reviews")
	flag.IntVar(&o.namespaces, "namespaces", 200, "new namespaces that have their first pod at the same moment")
	flag.IntVar(&o.uses, "uses", 3, "rounds of first uses")
	flag.Parse()
	err := run(ctx, o)
	switch {
	case ctx.Err() != nil: // interrupted; the harness has cleaned up
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "\npeers:", err)
		os.Exit(1)
	}
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s  %s\n", time.Now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

func run(ctx context.Context, o options) (err error) {
	b, err := bed.Start(ctx, bed.Options{Webhook: o.webhook, Progress: progress})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Stop()) }()
	k, err := startKyverno(ctx, b, o.kyverno)
	if err != nil {
		return fmt.Errorf("starting Kyverno: %w", err)
	}
	peers, err := prepare(ctx, b, k)
	if err != nil {
		return err
	}
	measured, err := reviews(ctx, peers, o)
	if err != nil {
		return err
	}
	fmt.Printf("%s\n\n", header(o))
	printReviews(os.Stdout, measured)
	uses, err := firstUses(ctx, b, k, o)
	if err != nil {
		return err
	}
	printFirstUses(os.Stdout, o.namespaces, uses)
	return nil
}
