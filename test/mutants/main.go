// Command mutants shows that every safeguard has a test that guards it.
//
// Each entry of mutants.yaml takes one safeguard out of a copy of the tree. The test that the entry names must then
// fail. The run fails if that test passes (a surviving mutant), or if the mutant does not compile. It also fails if
// the text to replace does not occur exactly once. First, the named tests must pass on the untouched copy, because a
// test that always fails would kill every mutant.
//
//   - name: mesh-dot
//     why: "invariant 1: The dot makes Envoy ask DNS and not the pod's own /etc/hosts."
//     file: internal/mesh/objects.go
//     replace: '{{Address: o.Host + "."}}'
//     with: '{{Address: o.Host}}'
//     test: ./internal/mesh TestObjectsOfEachShape/dns-host-with-system-roots-and-a-target-port
//     tier: unit
//
// An entry of tier e2e also has text that the failed test prints. With that many processes a test can fail for
// reasons that have nothing to do with the safeguard, and such a failure kills no mutant.
//
//	says: ':6379 answered "OK", want no answer'
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// source is the file of the mutants, seen from the root of the repository.
const source = "test/mutants/mutants.yaml"

func main() {
	var want selection
	flag.StringVar(&want.tier, "tier", "unit", "run the mutants of this tier: unit, integration, e2e or all")
	only := flag.String("only", "", "run only mutants whose name matches this regular expression")
	flag.BoolVar(&want.changed, "changed", false, "run only mutants whose file or entry differs from main")
	parallel := flag.Int(
		"parallel", runtime.NumCPU(), "run this many mutants of the unit tier at once, each in its own copy",
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if want.only, err = regexp.Compile(*only); err == nil {
		err = run(ctx, want, *parallel)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, want selection, parallel int) error {
	all, err := load(source)
	if err != nil {
		return err
	}
	selected, err := want.of(ctx, all)
	if err != nil {
		return err
	}
	if len(selected) == 0 { // nothing has changed
		return nil
	}
	var unit, slow []mutant
	for _, m := range selected {
		if m.Tier == "unit" {
			unit = append(unit, m)
		} else { // each starts its own processes and network devices
			slow = append(slow, m)
		}
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
		failed += killAll(ctx, part.trees, part.mutants)
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

// each calls do for every item, in one goroutine for each tree.
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

// killAll prints for every mutant what killed it, and returns the number of survivors.
func killAll(ctx context.Context, trees []*tree, mutants []mutant) (survived int) {
	var mu sync.Mutex
	each(trees, mutants, func(t *tree, m mutant) {
		if ctx.Err() != nil {
			return
		}
		began := time.Now()
		killer, err := kill(ctx, t, m)
		if ctx.Err() != nil {
			return
		}
		result := "killed by " + killer
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			survived++
			result = "SURVIVED: " + err.Error()
		}
		fmt.Printf("%-46s %5.1fs  %s\n%56s%s\n", m.label(), time.Since(began).Seconds(), m.Why, "", result)
	})
	return survived
}
