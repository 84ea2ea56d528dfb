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
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	// retryAfter is the wait after a failure; a change of what we watch comes first.
	retryAfter = 5 * time.Second
)

// Rotator keeps the certificate. It is a manager.Runnable for every replica.
type Rotator struct {
	options Options
	reader  client.Reader               // the informers' cache
	live    client.Client               // the API server
	start   func(context.Context) error // starts the informers; returns when the context ends
	synced  func(context.Context) bool
	changed chan struct{}
	log     logr.Logger

	serving atomic.Pointer[certificate]
	// trusted says that the configuration carries the bundle of what is served.
	trusted atomic.Bool
}

// New returns a Rotator with informers of its own: the service account may list and watch the Secret and
// the configuration by name only, so the requests must carry that name.
func New(config *rest.Config, options Options, log logr.Logger) (*Rotator, error) {
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
	r := newRotator(options, informers, live, log)
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

func newRotator(options Options, reader client.Reader, live client.Client, log logr.Logger) *Rotator {
	return &Rotator{options: options, reader: reader, live: live, log: log, changed: make(chan struct{}, 1)}
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
		wait := checkEvery
		switch err := r.reconcile(ctx); {
		case errors.Is(err, errBehind):
			wait = retryAfter
		case err != nil && ctx.Err() == nil:
			r.log.Error(err, "keeping the serving certificate")
			wait = retryAfter
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

// errBehind says that the cache has not yet what another replica wrote. Its event will bring us back.
var errBehind = errors.New("the cache is behind the API server")

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

// Ready is a healthz.Checker: nil once a certificate that holds is served and the API server trusts it.
func (r *Rotator) Ready(*http.Request) error {
	switch {
	case !r.serving.Load().validAt(r.options.Now()):
		return errors.New("no valid serving certificate yet")
	case !r.trusted.Load():
		return fmt.Errorf("MutatingWebhookConfiguration %s has not the serving certificate's CA yet", r.options.Configuration)
	}
	return nil
}

// reconcile looks at the Secret, renews it where due, hands its CA to the configuration, and serves it, in
// this order: whoever dials a new certificate must know its CA already. Only where the one served does
// not hold any more is the new one served at once.
func (r *Rotator) reconcile(ctx context.Context) error {
	current, err := r.certificate(ctx)
	if err != nil {
		return err
	}
	err = r.publish(ctx, current.bundle)
	if errors.Is(err, errBehind) {
		return err
	}
	if err == nil || !r.serving.Load().validAt(r.options.Now()) {
		r.serving.Store(current)
	}
	r.trusted.Store(err == nil)
	return err
}

// certificate returns what the Secret holds, renewed where due.
func (r *Rotator) certificate(ctx context.Context) (*certificate, error) {
	now := r.options.Now()
	var secret corev1.Secret
	if err := r.reader.Get(ctx, r.options.secretKey(), &secret); err != nil {
		return nil, fmt.Errorf("reading Secret %s, which the chart creates: %w", r.options.secretKey(), err)
	}
	current, wrong := parse(secret.Data, r.options.dnsName(), now)
	if wrong == nil && now.Add(r.options.Lookahead).Before(current.until) {
		return current, nil
	}
	renewed, err := r.renew(ctx, &secret, now)
	switch {
	case err == nil:
		return renewed, nil
	case wrong == nil: // it still holds for most of the lookahead
		if !errors.Is(err, errBehind) {
			r.log.Error(err, "renewing the serving certificate", "until", current.until)
		}
		return current, nil
	case errors.Is(err, errBehind):
		return nil, err
	default:
		return nil, errors.Join(wrong, err)
	}
}

// renew writes the Secret anew. It carries the resourceVersion that was read, so of several replicas one wins.
func (r *Rotator) renew(ctx context.Context, secret *corev1.Secret, now time.Time) (*certificate, error) {
	data, err := r.options.issue(secret.Data, now)
	if err != nil {
		return nil, err
	}
	renewed := secret.DeepCopy()
	renewed.Data = data
	err = r.live.Update(ctx, renewed)
	if apierrors.IsConflict(err) {
		return nil, errBehind
	}
	if err != nil {
		return nil, fmt.Errorf("writing Secret %s: %w", r.options.secretKey(), err)
	}
	r.log.Info("renewed the serving certificate", "secret", r.options.secretKey())
	return parse(data, r.options.dnsName(), now)
}
