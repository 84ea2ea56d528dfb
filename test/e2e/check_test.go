package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// envoyAnswers are the requests to a sidecar whose answers redis-tls check reads, by the names of --sidecar-files.
var envoyAnswers = map[string]string{
	"config_dump.json": "config_dump?resource=dynamic_active_clusters&name_regex=outbound.*",
	"clusters.json":    "clusters?format=json",
	"certs.json":       "certs",
	"stats.json":       `stats?format=json&filter=^cluster\.outbound.*\.ssl\.`,
}

// TestCheckReadsTheSidecar proves that redis-tls check understands a real Envoy: it passes one that has a connection,
// and finds a failed handshake and a missing endpoint. There is no kubelet, so the answers come from files.
func TestCheckReadsTheSidecar(t *testing.T) {
	b := mesh(t)
	ns := namespace(t, b, "check", nil, nil)
	binary, err := b.Build(t.Context(), "./cmd/redis-tls", false)
	ok(t, err)
	checkCluster(t, binary, b.Kubeconfig)
	ca := newCA(t, "Right")
	secret(t, b, ns, "right-ca", "ca.crt", ca.PEM())
	clientSecret(t, b, ns, "client", issue(t, ca, []string{"client"}), ca.PEM())
	secret(t, b, ns, "wrong-ca", "ca.crt", newCA(t, "Wrong").PEM())
	const good, bad, missing = "good-check.example.com", "bad-check.example.com", "missing-check.example.com"
	for _, host := range []string{good, bad} {
		server(t, b, host, bed.RedisOptions{TLSPort: 16222, Leaf: issue(t, ca, []string{host})})
	}
	for _, test := range []struct {
		name, host, ca string
		want           []string
	}{
		{"passes", good, "right-ca", nil},
		{"wrong-ca", bad, "wrong-ca", []string{"sidecar-handshakes"}},
		{"no-endpoint", missing, "right-ca", []string{"sidecar-endpoints"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := run(t, b, app(ns, test.name, with(test.host, 16222, countTLS, map[string]string{
				"redis-tls/ca-secret": test.ca, "redis-tls/mode": "mutual", "redis-tls/client-secret": "client",
			})))
			if test.want == nil {
				answers(t, p, test.host, 6379, "PONG", "PING")
			} else {
				refused(t, p, test.host, 6379)
			}
			dir := t.TempDir()
			var last []string
			ok(t, harness.Eventually(t.Context(), 30*time.Second, fmt.Sprintf("%q to fail", test.want),
				func(ctx context.Context) error {
					saveAnswers(t, p, filepath.Join(dir, ns, test.name))
					failed, found, err := checkPod(ctx, binary, b.Kubeconfig, dir, ns, test.name)
					last = found
					if err != nil || !slices.Equal(failed, test.want) {
						return fmt.Errorf("failed: %q, found: %q, %w", failed, found, err)
					}
					return nil
				}))
			t.Logf("found: %q", last)
			if test.want == nil {
				changedAnswers(t, binary, b.Kubeconfig, dir, ns, test.name)
			}
		})
	}
}

// changedAnswers changes each answer of a sidecar that passes, and requires that exactly the check of the change fails.
func changedAnswers(t *testing.T, binary, kubeconfig, dir, ns, pod string) {
	for _, change := range []struct{ id, file, replace, with string }{
		{"sidecar-clusters", "config_dump.json", "outbound|6379||", "outbound|6380||"},
		{"sidecar-tls-context", "config_dump.json", `"sni": "good-`, `"sni": "other-`},
		{"sidecar-certificates", "certs.json", `"serial_number": "`, `"serial_number": "f`},
	} {
		file := filepath.Join(dir, ns, pod, change.file)
		before, err := os.ReadFile(file)
		ok(t, err)
		ok(t, os.WriteFile(file, bytes.ReplaceAll(before, []byte(change.replace), []byte(change.with)), 0o600))
		failed, found, err := checkPod(t.Context(), binary, kubeconfig, dir, ns, pod)
		if !slices.Equal(failed, []string{change.id}) {
			t.Errorf("%s: failed: %q, found: %q, %v", change.id, failed, found, err)
		}
		ok(t, os.WriteFile(file, before, 0o600))
	}
}

// saveAnswers writes the answers of the pod's Envoy.
func saveAnswers(t *testing.T, p *bed.Pod, dir string) {
	t.Helper()
	ok(t, os.MkdirAll(dir, 0o755))
	for file, path := range envoyAnswers {
		text, err := p.Envoy(t.Context(), path)
		ok(t, err)
		ok(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
	}
}

// checkReport is the JSON of redis-tls check.
type checkReport struct {
	Groups []struct {
		Workload string
		Checks   []struct {
			ID, Status, Detail string
			Found              []string
		}
	}
}

// runCheck runs redis-tls check.
func runCheck(ctx context.Context, binary, kubeconfig string, args ...string) (report checkReport, err error) {
	command := exec.CommandContext(ctx, binary, append([]string{"check", "-o", "json", "--kubeconfig", kubeconfig},
		args...)...)
	var out, errOut bytes.Buffer
	command.Stdout, command.Stderr = &out, &errOut
	var exit *exec.ExitError
	if err := command.Run(); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 79) {
		return report, fmt.Errorf("%w: %s", err, &errOut)
	}
	return report, json.Unmarshal(out.Bytes(), &report)
}

// checkCluster proves that the checks of the cluster pass with a real Istio. The bed runs the replicas without a
// kubelet, so no pod is ready. Without ready pods, the Deployment keeps those of an upgrade by another test.
func checkCluster(t *testing.T, binary, kubeconfig string) {
	t.Helper()
	report, err := runCheck(t.Context(), binary, kubeconfig)
	ok(t, err)
	for _, c := range report.Groups[0].Checks {
		if c.Status == "failed" && c.ID != "replicas-ready" && c.ID != "configuration-current" {
			t.Errorf("%s failed: %q", c.ID, c.Found)
		}
		if strings.HasPrefix(c.ID, "istio-") && c.Status != "passed" && c.ID != "istio-version" {
			t.Errorf("%s: %s, %s", c.ID, c.Status, c.Detail)
		}
	}
}

// checkPod returns the checks of the pod that failed, and what they found. A skipped one is an error.
func checkPod(
	ctx context.Context, binary, kubeconfig, dir, namespace, pod string,
) (failed, found []string, err error) {
	report, err := runCheck(ctx, binary, kubeconfig, "--sidecar-files", dir, "-n", namespace, "--skip", "tls-files-expiry",
		"pod/"+pod)
	if err != nil {
		return nil, nil, err
	}
	for _, g := range report.Groups {
		for _, c := range g.Checks {
			switch {
			case g.Workload == "":
			case c.Status == "failed":
				failed, found = append(failed, c.ID), append(found, c.Found...)
			case c.Status == "skipped" && len(failed) == 0:
				err = fmt.Errorf("%s: skipped: %s", c.ID, c.Detail)
			}
		}
	}
	return failed, found, err
}
