package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
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

// leaseName is the Lease of the leader election; the chart's Role names it.
const leaseName = "redis-tls-webhook"

// shutdown is how long the manager may take to end once the server has: the leader's work, and the watches.
const shutdown = 10 * time.Second

// run serves until the context ends.
func run(ctx context.Context, f flags) error {
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&f.log)))
	cfg, err := f.complete()
	if err != nil {
		return err
	}
	if err := limitMemory(); err != nil {
		return err
	}
	restConfig, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	// No limit of our own: an admission makes no call, and when 200 namespaces come at once, or after a
	// restart, the controller must not queue behind itself. Fairness is the API server's.
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
		return fmt.Errorf("making the manager: %w", err)
	}
	if err := mgr.Add(rotator); err != nil {
		return fmt.Errorf("adding the serving certificate: %w", err)
	}
	view, err := cluster.Setup(ctx, mgr, cfg)
	if err != nil {
		return fmt.Errorf("setting up the view of the cluster: %w", err)
	}
	if err := registerMetrics(metrics.Registry, view); err != nil {
		return fmt.Errorf("registering the metrics of the process: %w", err)
	}
	if err := controller.Setup(mgr, view, cfg); err != nil {
		return fmt.Errorf("setting up the controller: %w", err)
	}
	handler, err := webhook.NewHandler(&inject.Injector{Config: cfg, View: view, Now: time.Now}, metrics.Registry, ctrl.Log.WithName("admission"))
	if err != nil {
		return err
	}
	handler.NeedCertManager = view.NeedCertManager
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

// serve runs the manager until the context ends. The server goes before everything else: while it drains, caches,
// certificate and controller are what they were, and only then is the lease given up.
func serve(ctx context.Context, mgr ctrl.Manager, serving *server.Server) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		serving.Drain()
		stop()
	})()
	err := mgr.Start(running)
	// A leader that loses its lease ends at once, but not the requests that it has, nor those still to come
	// until everybody knows that it is not ready.
	serving.Wait()
	if err != nil {
		return fmt.Errorf("running: %w", err)
	}
	return nil
}

// addServer adds the server of the handler to the manager.
func (f *flags) addServer(mgr ctrl.Manager, handler http.Handler, rotator *servingcert.Rotator) (*server.Server, error) {
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

// managerOptions are the manager's, the servers included.
func (f *flags) managerOptions(cfg config.Config) (ctrl.Options, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), cluster.AddToScheme(scheme)); err != nil {
		return ctrl.Options{}, fmt.Errorf("registering types: %w", err)
	}
	return ctrl.Options{
		Scheme:                  scheme,
		Cache:                   cluster.CacheOptions(cfg),
		Metrics:                 metricsserver.Options{BindAddress: f.metricsAddress},
		HealthProbeBindAddress:  f.healthAddress,
		PprofBindAddress:        f.profileAddress,
		LeaderElection:          f.leaderElect,
		LeaderElectionID:        leaseName,
		LeaderElectionNamespace: f.certificate.Namespace,
		// The one object beside the mesh's that the chart does not delete.
		LeaderElectionLabels: map[string]string{origination.ManagedByLabel: origination.ManagedBy},
		// The process ends when the manager does, so the next leader need not wait for the lease.
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       ptr.To(shutdown),
	}, nil
}

// addChecks makes the replica ready when it can answer: with the certificate served and trusted, and
// the caches filled, since an empty one would know neither claims nor Services.
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
