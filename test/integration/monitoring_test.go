package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/test/harness"
	"github.com/redis-tls/redis-tls/test/monitoring"
)

// TestAlertsAndDashboardSelectExportedMetrics scrapes the running server, and an API server that has failed to call it.
// Every selector of the alerts and of the dashboard matches a series, so no alert is silent because of a wrong name.
func TestAlertsAndDashboardSelectExportedMetrics(t *testing.T) {
	c := start(t, setup{})
	ns := c.namespace("seen", nil, nil)
	c.admitted(pod(ns, "p", requesting()))
	c.waitForObjects(ns, 1, 1)
	c.eventually("the pass after the one that created the objects", func(context.Context) error {
		if got := c.metric("redis_tls_originations", `state="served"`); got != 1 {
			return fmt.Errorf("%v claims are served, want 1", got)
		}
		return nil
	})
	server, err := c.webhook.Metrics(t.Context())
	c.must(err)

	c.must(c.webhook.Stop(t.Context()))
	c.refused(pod(ns, "q", requesting()), "failed calling webhook")
	var apiServer string
	c.eventually("the API server to count the call that failed", func(ctx context.Context) error {
		raw, err := c.Clientset.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
		apiServer = string(raw)
		if err == nil && !strings.Contains(apiServer, "apiserver_admission_webhook_rejection_count{") {
			err = errors.New("it counts no rejection")
		}
		return err
	})

	root, err := harness.ModuleRoot()
	c.must(err)
	expressions, err := monitoring.Expressions(root)
	c.must(err)
	var files []string
	for name, exposition := range map[string]string{"server": server, "apiserver": apiServer, "prometheus": "up 1\n"} {
		file := filepath.Join(t.TempDir(), name)
		c.must(os.WriteFile(file, []byte(exposition), 0o600))
		files = append(files, file)
	}
	c.must(monitoring.Matched(t.Context(), root, expressions, files...))
	for _, wrong := range []string{"redis_tls_admission_total", `redis_tls_admissions_total{reason="Interna"}`} {
		if err := monitoring.Matched(t.Context(), root, []string{wrong}, files...); err == nil ||
			!strings.Contains(err.Error(), wrong) {
			t.Errorf("%s passes: %v", wrong, err)
		}
	}
}
