// Command soak creates pods at a fixed rate while it injects faults into the replicas and the control plane. For each
// fault it prints the results of the pods and of their mesh objects. It fails if a pod was lost or an object wrong.
// docs/reliability.md explains the columns.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	f := longForm()
	flag.StringVar(&f.binary, "webhook", "", "path of a built cmd/webhook; default: built from this tree")
	flag.StringVar(&f.other, "other", "", "path of a cmd/webhook with another version, for the fault of two releases")
	flag.IntVar(&f.rate, "rate", f.rate, "pods per second")
	path := flag.String("log", filepath.Join("bin", "soak.jsonl"), "file for a line of JSON for each pod")
	flag.Func("faults", "regular expression for the names of faults", func(value string) error {
		picked, err := regexp.Compile(value)
		if err != nil {
			return err
		}
		f.faults = slices.DeleteFunc(f.faults, func(f fault) bool { return !picked.MatchString(f.name) })
		return nil
	})
	flag.Parse()
	err := soakTo(ctx, f, *path)
	switch {
	case ctx.Err() != nil: // interrupted; the harness has cleaned up
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "\nsoak:", err)
		os.Exit(1)
	}
}

func soakTo(ctx context.Context, f form, path string) error {
	log, err := os.Create(path)
	if err != nil {
		return err
	}
	defer log.Close()
	begin := time.Now()
	say := progress(os.Stderr, begin)
	tally, failed := run(ctx, f, say, log)
	if tally == nil {
		return failed
	}
	fmt.Printf("%d pods a second for %s on %d processors; every pod is a line of %s\n\n",
		f.rate, time.Since(begin).Round(time.Second), runtime.NumCPU(), path)
	return errors.Join(failed, tally.Print(os.Stdout), tally.Err())
}

// progress writes lines with the time since the start.
func progress(w io.Writer, begin time.Time) func(format string, args ...any) {
	return func(format string, args ...any) {
		fmt.Fprintf(w, "%6.1fs  %s\n", time.Since(begin).Seconds(), fmt.Sprintf(format, args...))
	}
}
