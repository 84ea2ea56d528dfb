package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/controller"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/internal/server"
	"github.com/redis-tls/redis-tls/internal/servingcert"
	"github.com/redis-tls/redis-tls/webhook"
)

// leaseName is the Lease of the leader election. The chart's Role contains this name.
const leaseName = "redis-tls-webhook"

// shutdown is the time for the manager to stop the controller and the watches after the server has stopped.
const shutdown = 10 * time.Second

// run serves until the context ends.
func run(ctx context.Context, f flags) error {
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&f.log)))
	cfg, err := f.complete()
	if err != nil {
		return err
	}
	limitGarbage()
	if err := limitMemory(); err != nil {
		return err
	}
	restConfig, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	// No client-side limit. An admission makes no call. The controller must not throttle itself when 200 namespaces appear
	// at once, or after a restart. The API server limits clients by priority and fairness.
	restConfig.QPS = -1

	rotator, err := servingcert.New(restConfig, f.certificate, metrics.Registry, ctrl.Log.WithName("servingcert"))
	if err != nil {
		return err
	}
	options, err := f.managerOptions(cfg)
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(restConfig, options)
	if err != nil {
		return fmt.Errorf("creating the manager: %w", err)
	}
	if err := mgr.Add(rotator); err != nil {
		return fmt.Errorf("adding the serving certificate: %w", err)
	}
	view, err := cluster.Setup(ctx, mgr, cfg)
	if err != nil {
		return fmt.Errorf("setting up the view of the cluster: %w", err)
	}
	if err := controller.Setup(mgr, view, cfg); err != nil {
		return fmt.Errorf("setting up the controller: %w", err)
	}
	handler, err := webhook.NewHandler(&inject.Injector{
		Config: cfg,
		View:   view,
		Now:    time.Now,
	}, metrics.Registry, ctrl.Log.WithName("admission"))
	if err != nil {
		return err
	}
	handler.NeedCertManager = view.NeedCertManager
	reload := f.newReloader(cfg, ctrl.Log.WithName("policy"), view, handler)
	configMap, err := mgr.GetCache().GetInformer(ctx, &corev1.ConfigMap{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching the ConfigMap of the configuration: %w", err)
	}
	if err := reload.watch(configMap); err != nil {
		return err
	}
	if err := registerMetrics(metrics.Registry, view, reload); err != nil {
		return fmt.Errorf("registering the metrics of the process: %w", err)
	}
	serving, err := f.addServer(mgr, handler, rotator)
	if err != nil {
		return err
	}
	if err := addChecks(mgr, rotator, serving, view); err != nil {
		return err
	}
	ctrl.Log.Info("starting", "version", version, "commit", commit(), "policy", cfg.Policy.Mode)
	return serve(ctx, mgr, serving)
}

// serve runs the manager until the context ends. The server stops first. While it drains, the caches, the certificate
// and the controller keep working, and the leader keeps its lease.
func serve(ctx context.Context, mgr ctrl.Manager, serving *server.Server) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		serving.Drain()
		stop()
	})()
	err := mgr.Start(running)
	// A leader that loses its lease stops at once. Its server still answers requests until the API servers know that it is
	// not ready.
	serving.Wait()
	if err != nil {
		return fmt.Errorf("running: %w", err)
	}
	return nil
}

// addServer adds the server of the handler to the manager.
func (f *flags) addServer(
	mgr ctrl.Manager,
	handler http.Handler,
	rotator *servingcert.Rotator,
) (*server.Server, error) {
	mux := http.NewServeMux()
	mux.Handle(webhook.Path, handler)
	options := f.server
	options.GetCertificate, options.Log = rotator.GetCertificate, ctrl.Log.WithName("server")
	serving, err := server.New(options, mux, metrics.Registry)
	if err != nil {
		return nil, err
	}
	if err := mgr.Add(serving); err != nil {
		return nil, fmt.Errorf("adding the server: %w", err)
	}
	return serving, nil
}

// managerOptions returns the options of the manager.
func (f *flags) managerOptions(cfg config.Config) (ctrl.Options, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), cluster.AddToScheme(scheme)); err != nil {
		return ctrl.Options{}, fmt.Errorf("registering types: %w", err)
	}
	caches := cluster.CacheOptions(cfg)
	caches.ByObject[&corev1.ConfigMap{}] = f.configMapOptions()
	return ctrl.Options{
		Scheme:                  scheme,
		Cache:                   caches,
		Metrics:                 metricsserver.Options{BindAddress: f.metricsAddress},
		HealthProbeBindAddress:  f.healthAddress,
		PprofBindAddress:        f.profileAddress,
		LeaderElection:          f.leaderElect,
		LeaderElectionID:        leaseName,
		LeaderElectionNamespace: f.certificate.Namespace,
		// The Lease is the only object, except for mesh objects, that the chart does not delete.
		LeaderElectionLabels: map[string]string{origination.ManagedByLabel: origination.ManagedBy},
		// The process ends with the manager, so the next leader does not have to wait for the lease.
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 &f.leaseDuration,
		RenewDeadline:                 &f.renewDeadline,
		RetryPeriod:                   &f.retryPeriod,
		GracefulShutdownTimeout:       ptr.To(shutdown),
	}, nil
}

// addChecks adds the readiness checks. A replica is ready when its certificate is trusted and its caches are filled: an
// empty cache has neither requests nor Services.
func addChecks(mgr ctrl.Manager, rotator *servingcert.Rotator, serving *server.Server, view *cluster.View) error {
	checks := map[string]healthz.Checker{
		"certificate": rotator.Ready,
		"webhook":     serving.Ready,
		"caches": func(*http.Request) error {
			if !view.Synced() {
				return errors.New("the caches are not filled yet")
			}
			return nil
		},
	}
	for name, check := range checks {
		if err := mgr.AddReadyzCheck(name, check); err != nil {
			return fmt.Errorf("adding the readiness check %s: %w", name, err)
		}
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return fmt.Errorf("adding the health check: %w", err)
	}
	return nil
}
