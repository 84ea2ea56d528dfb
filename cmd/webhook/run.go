package main

import (
	"context"
	"crypto/tls"
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
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/redis-tls/redis-tls/cluster"
	"github.com/redis-tls/redis-tls/controller"
	"github.com/redis-tls/redis-tls/inject"
	"github.com/redis-tls/redis-tls/origination"
	"github.com/redis-tls/redis-tls/servingcert"
	"github.com/redis-tls/redis-tls/webhook"
)

// leaseName is the Lease of the leader election; the chart's Role names it.
const leaseName = "redis-tls-webhook"

// shutdown is how long calls in flight and the leader's work may take to end; the chart's pod has 30 s
// of which 5 pass before the signal.
const shutdown = 20 * time.Second

// run serves until the context ends.
func run(ctx context.Context, f flags) error {
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&f.log)))
	cfg, err := f.complete()
	if err != nil {
		return err
	}
	restConfig, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	// No limit of our own: an admission makes no call, and when 200 namespaces come at once, or after a
	// restart, the controller must not queue behind itself. Fairness is the API server's.
	restConfig.QPS = -1

	rotator, err := servingcert.New(restConfig, f.certificate, ctrl.Log.WithName("servingcert"))
	if err != nil {
		return err
	}
	options, err := f.managerOptions(cfg, rotator)
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
	mgr.GetWebhookServer().Register(webhook.Path, handler)
	if err := addChecks(mgr, rotator, view); err != nil {
		return err
	}
	ctrl.Log.Info("starting", "version", version, "commit", commit(), "policy", cfg.Policy.Mode)
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("running: %w", err)
	}
	return nil
}

// managerOptions are the manager's, the servers included.
func (f *flags) managerOptions(cfg origination.Config, rotator *servingcert.Rotator) (ctrl.Options, error) {
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
		// The process ends when the manager does, so the next leader need not wait for the lease.
		LeaderElectionReleaseOnCancel: true,
		GracefulShutdownTimeout:       ptr.To(shutdown),
		WebhookServer: ctrlwebhook.NewServer(ctrlwebhook.Options{
			Host: f.webhookHost,
			Port: f.webhookPort,
			TLSOpts: []func(*tls.Config){func(c *tls.Config) {
				c.MinVersion = tls.VersionTLS12
				c.NextProtos = []string{"http/1.1"} // what the API server speaks to a Service; spares HTTP/2's resets
				c.GetCertificate = rotator.GetCertificate
			}},
		}),
	}, nil
}

// addChecks makes the replica ready when it can answer: with the certificate served and trusted, and
// the caches filled, since an empty one would know neither claims nor Services.
func addChecks(mgr ctrl.Manager, rotator *servingcert.Rotator, view *cluster.View) error {
	checks := map[string]healthz.Checker{
		"certificate": rotator.Ready,
		"webhook":     mgr.GetWebhookServer().StartedChecker(),
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
