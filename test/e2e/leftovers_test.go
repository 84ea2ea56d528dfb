package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// endVariable is the environment variable with the way in which a process that runs this test again ends.
const endVariable = "E2E_END"

// TestNothingIsLeftBehind: however the tests end, no process, network namespace, device, rule or file of theirs
// remains.
func TestNothingIsLeftBehind(t *testing.T) {
	if end := os.Getenv(endVariable); end != "" {
		endABed(t, end)
		return
	}
	if os.Getenv(variable) == "" {
		mesh(t) // skips
	}
	for _, end := range []struct{ name, how string }{
		{"after a failed test", "failure"},
		{"after Ctrl-C", syscall.SIGINT.String()},
		{"after a crash", syscall.SIGKILL.String()},
	} {
		t.Run(end.name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestNothingIsLeftBehind$", "-test.v")
			cmd.Env = append(os.Environ(), endVariable+"="+end.how)
			var log bytes.Buffer
			out, err := cmd.StdoutPipe()
			ok(t, err)
			cmd.Stderr = &log
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
			ok(t, cmd.Start())
			ran := ""
			for lines := bufio.NewScanner(out); lines.Scan(); {
				log.WriteString(lines.Text() + "\n")
				if n, found := strings.CutPrefix(lines.Text(), running); found {
					ran = n
				}
			}
			err = cmd.Wait()
			if ran == "" || err == nil {
				t.Fatalf("the bed did not run, or did not end as it should (%v):\n%s", err, log.String())
			}
			t.Logf("%s; left at its end: %q", err, leftovers(t, cmd.Process.Pid))
			ok(t, harness.Eventually(t.Context(), 15*time.Second, "nothing to remain", func(context.Context) error {
				if remaining := leftovers(t, cmd.Process.Pid); len(remaining) > 0 {
					return fmt.Errorf("%q", remaining)
				}
				return nil
			}))
		})
	}
}

// running is printed before the number of things that a bed has.
const running = "a bed runs: "

// endABed starts a bed with everything that one can have, and ends this process.
func endABed(t *testing.T, how string) {
	b := mesh(t)
	const host = "redis-end.aivencloud.com"
	ns := namespace(t, b, "end", nil, nil)
	redis := server(t, b, host, bed.RedisOptions{TLSPort: 6379, Leaf: issue(t, b.PublicCA, []string{host})})
	record(t, redis)
	p := run(t, b, app(ns, "app", map[string]string{"redis-tls/host": host}))
	_, err := p.Subscribe(host, 6379, "news")
	ok(t, err)
	answers(t, p, host, 6379, "1", "PUBLISH", "news", "all is there")
	remaining := leftovers(t, os.Getpid())
	if len(remaining) < 10 {
		t.Fatalf("a running bed has only %q", remaining)
	}
	fmt.Printf("%s%d things\n", running, len(remaining))
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		if s.String() == how {
			ok(t, syscall.Kill(os.Getpid(), s))
			<-t.Context().Done() // the test does not end by itself
		}
	}
	t.Fatal("this test has to fail")
}

// leftovers lists the processes below a process, and its namespaces, devices, rules and files.
func leftovers(t *testing.T, pid int) (remaining []string) {
	t.Helper()
	for pattern, name := range map[string]string{
		"/run/netns/*":                   `^rtls%d-`,
		"/etc/netns/*":                   `^rtls%d-`,
		"/sys/class/net/*":               `^rtls%d[a-z]`,
		filepath.Join(os.TempDir(), "*"): `^redis-tls-%d-`,
	} {
		paths, err := filepath.Glob(pattern)
		ok(t, err)
		own := regexp.MustCompile(fmt.Sprintf(name, pid))
		for _, path := range paths {
			if own.MatchString(filepath.Base(path)) {
				remaining = append(remaining, path)
			}
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	ok(t, err)
	for _, p := range processes {
		// A process that has just ended has no command and no environment.
		command, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		environment, _ := os.ReadFile(filepath.Join(p, "environ"))
		if strings.Contains(string(command)+string(environment), fmt.Sprintf("/redis-tls-%d-", pid)) {
			remaining = append(remaining, fmt.Sprintf("%s: %q", p, command))
		}
	}
	rules, err := exec.Command("iptables-save", "-t", "nat").Output()
	ok(t, err)
	if strings.Contains(string(rules), "ISTIO_") {
		remaining = append(remaining, string(rules))
	}
	return remaining
}
