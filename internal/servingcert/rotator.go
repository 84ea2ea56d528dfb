package servingcert

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// checkEvery is the interval of checks while nothing changes.
	checkEvery = 12 * time.Hour
	// retryAfter is the wait after a failure while the replica is not ready. An event ends it earlier.
	retryAfter = 5 * time.Second
	// retryServing is the wait after a failure while the served certificate is valid.
	retryServing = time.Minute
	// readyDelay is how long a replica that starts during a change of CAs, and has only the new certificate, stays
	// unready. It is some readiness probes, not PropagationDelay, because there may be no other replica.
	readyDelay = 10 * time.Second
)

// Rotator serves, publishes and renews the certificate. It is a manager.Runnable that runs on every replica.
type Rotator struct {
	options Options
	reader  client.Reader               // the informers' cache
	live    client.Client               // the API server
	start   func(context.Context) error // starts the informers; returns when the context ends
	synced  func(context.Context) bool
	changed chan struct{}
	metrics *Metrics
	log     logr.Logger

	serving atomic.Pointer[certificate]
	// trusted is set once the configuration contained the CA of the served certificate.
	trusted atomic.Bool
	// readyFrom is the earliest time, in Unix nanoseconds, at which a replica that started during a change of CAs is
	// ready.
	readyFrom atomic.Int64
	// seen are the CAs of the configuration. joined is whether it ever contained a CA of this replica. Only reconcile
	// uses both.
	seen   sightings
	joined bool
}

// New returns a Rotator with its own informers. The service account may list and watch the Secret and the configuration
// only by name, so the requests must contain the name.
func New(config *rest.Config, options Options, registerer prometheus.Registerer, log logr.Logger) (*Rotator, error) {
	if err := options.complete(); err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), admissionregistrationv1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("serving certificate: %w", err)
	}
	informers, err := cache.New(config, cache.Options{Scheme: scheme, ByObject: map[client.Object]cache.ByObject{
		&corev1.Secret{}: {Namespaces: map[string]cache.Config{
			options.Namespace: {FieldSelector: fields.OneTermEqualSelector("metadata.name", options.Secret)},
		}},
		&admissionregistrationv1.MutatingWebhookConfiguration{}: {
			Field: fields.OneTermEqualSelector("metadata.name", options.Configuration),
		},
	}})
	if err != nil {
		return nil, fmt.Errorf("serving certificate: creating the informers: %w", err)
	}
	live, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("serving certificate: creating the client: %w", err)
	}
	m, err := NewMetrics(registerer)
	if err != nil {
		return nil, fmt.Errorf("serving certificate: registering metrics: %w", err)
	}
	r := newRotator(options, informers, live, m, log)
	r.start, r.synced = informers.Start, informers.WaitForCacheSync
	for _, object := range []client.Object{&corev1.Secret{}, &admissionregistrationv1.MutatingWebhookConfiguration{}} {
		informer, err := informers.GetInformer(context.Background(), object, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("serving certificate: watching: %w", err)
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { r.wake() },
			UpdateFunc: func(any, any) { r.wake() },
			DeleteFunc: func(any) { r.wake() },
		}); err != nil {
			return nil, fmt.Errorf("serving certificate: watching: %w", err)
		}
	}
	return r, nil
}

func newRotator(options Options, reader client.Reader, live client.Client, m *Metrics, log logr.Logger) *Rotator {
	return &Rotator{options: options, reader: reader, live: live, metrics: m, log: log, changed: make(chan struct{}, 1)}
}

// NeedLeaderElection returns false, because every replica serves.
func (r *Rotator) NeedLeaderElection() bool { return false }

// Start reconciles the certificate until the context ends.
func (r *Rotator) Start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := make(chan error, 1)
	go func() {
		stopped <- r.start(ctx)
		cancel()
	}()
	if !r.synced(ctx) {
		return <-stopped
	}
	for {
		wait, err := r.reconcile(ctx)
		if err != nil {
			wait = min(wait, r.retryWait(err))
		}
		if err != nil && !errors.Is(err, errBehind) && ctx.Err() == nil {
			r.log.Error(err, "reconciling the serving certificate")
		}
		timer := time.NewTimer(wait)
		select {
		case <-r.changed:
		case <-timer.C:
		case err := <-stopped:
			timer.Stop()
			return err
		}
		timer.Stop()
	}
}

// retryWait returns the wait after a failure.
func (r *Rotator) retryWait(err error) time.Duration {
	if r.Ready(nil) == nil && !errors.Is(err, errBehind) {
		return retryServing
	}
	return retryAfter
}

// wake triggers a pass. At most one is pending.
func (r *Rotator) wake() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// GetCertificate is tls.Config.GetCertificate.
func (r *Rotator) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c := r.serving.Load()
	if c == nil {
		return nil, errors.New("no serving certificate yet")
	}
	return &c.tls, nil
}

// Ready is a healthz.Checker. It returns nil once a valid certificate is served and the configuration contained its CA.
// If the caBundle is emptied later, the replica stays ready, because it restores the caBundle faster than an endpoint
// could be removed and added.
func (r *Rotator) Ready(*http.Request) error {
	switch now := r.options.Now(); {
	case !r.serving.Load().validAt(now):
		return fmt.Errorf("no valid serving certificate in Secret %s yet", r.options.secretKey())
	case !r.trusted.Load():
		return fmt.Errorf(
			"MutatingWebhookConfiguration %s does not contain the CA of the serving certificate yet",
			r.options.Configuration,
		)
	case now.UnixNano() < r.readyFrom.Load():
		return fmt.Errorf(
			"MutatingWebhookConfiguration %s got the CA of the serving certificate only some seconds ago",
			r.options.Configuration,
		)
	}
	return nil
}
