package main

import (
	"net/http"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/controller"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/metrics"
	"github.com/redis-tls/redis-tls/internal/metrics/metricstest"
	"github.com/redis-tls/redis-tls/internal/server"
	"github.com/redis-tls/redis-tls/internal/servingcert"
	"github.com/redis-tls/redis-tls/webhook"
)

type caches struct{ synced, istio bool }

func (c *caches) Synced() bool     { return c.synced }
func (c *caches) IstioReady() bool { return c.istio }

// newRegistry registers all metrics of the server.
func newRegistry(t *testing.T, view state) *prometheus.Registry {
	t.Helper()
	registry := prometheus.NewRegistry()
	if err := registerMetrics(registry, view, &reloader{}); err != nil {
		t.Fatal(err)
	}
	if _, err := controller.NewMetrics(registry); err != nil {
		t.Fatal(err)
	}
	if _, err := servingcert.NewMetrics(registry); err != nil {
		t.Fatal(err)
	}
	injector := &inject.Injector{Config: config.Default(), Now: time.Now}
	if _, err := webhook.NewHandler(injector, registry, logr.Discard()); err != nil {
		t.Fatal(err)
	}
	if _, err := server.New(server.Options{}, http.NewServeMux(), registry); err != nil {
		t.Fatal(err)
	}
	return registry
}

// registryOf registers the metrics of the process only.
func registryOf(t *testing.T, reload *reloader) *prometheus.Registry {
	t.Helper()
	registry := prometheus.NewRegistry()
	if err := registerMetrics(registry, &caches{}, reload); err != nil {
		t.Fatal(err)
	}
	return registry
}

func TestEveryMetricIsExportedFromTheStart(t *testing.T) {
	registry := newRegistry(t, &caches{})
	metricstest.Gather(t, registry)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, m := range metrics.Table() {
		want = append(want, m.Name)
	}
	for _, f := range families {
		got = append(got, f.GetName())
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("exported (-table +server):\n%s", diff)
	}
}

func TestStateOfTheCachesIsExported(t *testing.T) {
	view := &caches{}
	registry := newRegistry(t, view)
	build := "redis_tls_build_info commit=" + commit() + " goversion=" + runtime.Version() + " version=" + version
	want := map[string]float64{build: 1, "redis_tls_policy_current": 1}
	if diff := cmp.Diff(want, metricstest.Gather(t, registry)); diff != "" {
		t.Errorf("with empty caches (-want +got):\n%s", diff)
	}
	view.synced, view.istio = true, true
	if diff := cmp.Diff(map[string]float64{
		build:                      1,
		"redis_tls_caches_synced":  1,
		"redis_tls_istio_ready":    1,
		"redis_tls_policy_current": 1,
	}, metricstest.Gather(t, registry)); diff != "" {
		t.Errorf("with the caches filled (-want +got):\n%s", diff)
	}
}
