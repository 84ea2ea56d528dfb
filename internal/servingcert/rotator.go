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
	// checkEvery is how often the dates are looked at when nothing changes.
	checkEvery = 12 * time.Hour
	// retryAfter is the wait after a failure of a replica that is not ready; a change of what we watch comes first.
	retryAfter = 5 * time.Second
	// retryServing is it while what is served is good.
	retryServing = time.Minute
	// newcomer is how long a replica that comes into a change of CAs, with nothing to serve but the new certificate,
	// leaves the calls to others: some tries of its readiness, not PropagationDelay, since there may be no others.
	newcomer = 10 * time.Second
)

// Rotator keeps the certificate. It is a manager.Runnable for every replica.
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
	// trusted says that the configuration has carried the CA of what is served.
	trusted atomic.Bool
	// readyFrom is when a replica that came into a change of CAs may be ready at the soonest, in Unix nanoseconds.
	readyFrom atomic.Int64
	// seen are the CAs of the configuration, and joined whether it has carried ours before; reconcile's alone.
	seen   sightings
	joined bool
}

// New returns a Rotator with informers of its own: the service account may list and watch the Secret and
// the configuration by name only, so the requests must carry that name.
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
		return nil, fmt.Errorf("serving certificate: making the informers: %w", err)
	}
	live, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("serving certificate: making the client: %w", err)
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
			AddFunc:    func(any) { r.poke() },
			UpdateFunc: func(any, any) { r.poke() },
			DeleteFunc: func(any) { r.poke() },
		}); err != nil {
			return nil, fmt.Errorf("serving certificate: watching: %w", err)
		}
	}
	return r, nil
}

func newRotator(options Options, reader client.Reader, live client.Client, m *Metrics, log logr.Logger) *Rotator {
	return &Rotator{options: options, reader: reader, live: live, metrics: m, log: log, changed: make(chan struct{}, 1)}
}

// NeedLeaderElection says that every replica serves, so every replica rotates.
func (r *Rotator) NeedLeaderElection() bool { return false }

// Start keeps the certificate until the context ends.
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
			wait = min(wait, r.patience(err))
		}
		if err != nil && !errors.Is(err, errBehind) && ctx.Err() == nil {
			r.log.Error(err, "keeping the serving certificate")
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

// patience is the wait after a failure.
func (r *Rotator) patience(err error) time.Duration {
	if r.Ready(nil) == nil && !errors.Is(err, errBehind) {
		return retryServing
	}
	return retryAfter
}

// poke asks for a look, at most one at a time.
func (r *Rotator) poke() {
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

// Ready is a healthz.Checker: nil once a certificate that holds is served and the API server has been told to
// trust it. Should somebody wipe the caBundle later, the replica stays ready: it puts it back in less time
// than an endpoint takes to go and come.
func (r *Rotator) Ready(*http.Request) error {
	switch now := r.options.Now(); {
	case !r.serving.Load().validAt(now):
		return fmt.Errorf("no valid serving certificate in Secret %s yet", r.options.secretKey())
	case !r.trusted.Load():
		return fmt.Errorf("MutatingWebhookConfiguration %s has not the serving certificate's CA yet", r.options.Configuration)
	case now.UnixNano() < r.readyFrom.Load():
		return fmt.Errorf("MutatingWebhookConfiguration %s has the serving certificate's CA only since a moment ago", r.options.Configuration)
	}
	return nil
}
