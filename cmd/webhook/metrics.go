package main

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/redis-tls/redis-tls/internal/metrics"
)

// state is the state of the caches that the server exports.
type state interface {
	Synced() bool
	IstioReady() bool
}

// registerMetrics registers the metrics of the process.
func registerMetrics(registerer prometheus.Registerer, view state, reload *reloader) error {
	build := metrics.NewGaugeVec(metrics.BuildInfo)
	build.WithLabelValues(version, commit(), runtime.Version()).Set(1)
	return metrics.Register(registerer, build,
		metrics.NewGaugeFunc(metrics.CachesSynced, func() float64 { return metrics.Bool(view.Synced()) }),
		metrics.NewGaugeFunc(metrics.IstioReady, func() float64 { return metrics.Bool(view.IstioReady()) }),
		metrics.NewGaugeFunc(metrics.PolicyCurrent, func() float64 { return metrics.Bool(!reload.rejected.Load()) }))
}
