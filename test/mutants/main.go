// Command mutants shows that every safeguard has a test that guards it.
//
// In go the patches beside it, each of which takes one safeguard out; each is applied to a copy of the
// tree, and the test that it names must then fail. A patch whose test passes (a surviving mutant), that
// no longer applies or that does not compile fails the run. Before, the named tests must pass on the
// untouched copy: what fails anyway would kill every mutant.
//
// A patch begins with three lines, then the diff, with little context so that it survives changes around it:
//
//	Safeguard: DESIGN §5, the dot: Envoy must ask DNS, not the pod's own /etc/hosts
//	Test: ./mesh TestObjectsOfEachShape/dns-host-with-a-ca-secret-and-both-families
//	Tier: unit
//
// Of tier e2e, a fourth line has words of the failed test. Where that many processes take part a test can
// fail for reasons that have nothing to do with the safeguard; those kill no mutant.
//
//	Says: :6379 answered "OK", want no answer
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// directory is where the patches are, seen from the root of the repository.
const directory = "test/mutants"

func main() {
	tier := flag.String("tier", "unit", "run the mutants that tests of this tier judge: unit, integration, e2e or all")
	only := flag.String("only", "", "run only mutants whose file name contains this")
	parallel := flag.Int("parallel", runtime.NumCPU(), "how many mutants of the unit tier to run at once, each in a copy of its own")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *tier, *only, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, tier, only string, parallel int) error {
	all, err := load(directory)
	if err != nil {
		return err
	}
	var unit, slow []mutant
	for _, m := range all {
		switch {
		case tier != "all" && m.tier != tier || !strings.Contains(filepath.Base(m.file), only):
		case m.tier == "unit":
			unit = append(unit, m)
		default: // each starts processes and network devices of its own
			slow = append(slow, m)
		}
	}
	if len(unit)+len(slow) == 0 {
		return fmt.Errorf("no mutant of tier %q with %q in its name among %d", tier, only, len(all))
	}
	if len(unit) == 0 {
		parallel = 1
	}
	var trees []*tree
	for range max(1, parallel) {
		t, err := newTree(".")
		if err != nil {
			return err
		}
		defer t.remove()
		trees = append(trees, t)
	}
	began := time.Now()
	failed, err := 0, error(nil)
	for _, part := range []struct {
		mutants []mutant
		trees   []*tree
	}{{unit, trees}, {slow, trees[:1]}} {
		if err := passBefore(ctx, part.trees, part.mutants); err != nil {
			return cmp.Or(ctx.Err(), err)
		}
		failed += judgeAll(ctx, part.trees, part.mutants)
	}
	if err = ctx.Err(); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d mutants survived", failed, len(unit)+len(slow))
	}
	fmt.Printf("%d mutants, every one killed, in %s\n", len(unit)+len(slow), time.Since(began).Round(time.Second))
	return nil
}

// each calls do for every item, in as many goroutines as there are trees, each with a tree of its own.
func each[T any](trees []*tree, items []T, do func(*tree, T)) {
	queue := make(chan T)
	var workers sync.WaitGroup
	for _, t := range trees {
		workers.Go(func() {
			for item := range queue {
				do(t, item)
			}
		})
	}
	for _, item := range items {
		queue <- item
	}
	close(queue)
	workers.Wait()
}

// judgeAll says of every mutant what killed it, and returns how many live.
func judgeAll(ctx context.Context, trees []*tree, mutants []mutant) (survived int) {
	var mu sync.Mutex
	each(trees, mutants, func(t *tree, m mutant) {
		if ctx.Err() != nil {
			return
		}
		began := time.Now()
		killer, err := judge(ctx, t, m)
		if ctx.Err() != nil {
			return
		}
		verdict := "killed by " + killer
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			survived++
			verdict = "SURVIVED: " + err.Error()
		}
		fmt.Printf("%-46s %5.1fs  %s\n%56s%s\n", m.name(), time.Since(began).Seconds(), m.safeguard, "", verdict)
	})
	return survived
}
