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
	reader  client.Reader // the informers' cache
	writer  client.Writer
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
	writer, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("serving certificate: making the client: %w", err)
	}
	r := newRotator(options, informers, writer, log)
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

func newRotator(options Options, reader client.Reader, writer client.Writer, log logr.Logger) *Rotator {
	return &Rotator{options: options, reader: reader, writer: writer, log: log, changed: make(chan struct{}, 1)}
}

// NeedLeaderElection says that every replica serves, so every replica rotates.
func (r *Rotator) NeedLeaderElection() bool { return false }

// Start keeps the certificate until the context ends.
func (r *Rotator) Start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- r.start(ctx) }()
	if !r.synced(ctx) {
		cancel()
		return errors.Join(<-stopped, ctx.Err())
	}
	for {
		wait := checkEvery
		if err := r.reconcile(ctx); err != nil && ctx.Err() == nil {
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
	if err != nil || current == nil {
		return err
	}
	err = r.publish(ctx, current.bundle)
	if err == nil || !r.serving.Load().validAt(r.options.Now()) {
		r.serving.Store(current)
	}
	r.trusted.Store(err == nil)
	return err
}

// certificate returns what the Secret holds, renewed where due. Nil without an error: another replica has
// written it meanwhile, and its event will bring us back.
func (r *Rotator) certificate(ctx context.Context) (*certificate, error) {
	now := r.options.Now()
	var secret corev1.Secret
	key := client.ObjectKey{Namespace: r.options.Namespace, Name: r.options.Secret}
	if err := r.reader.Get(ctx, key, &secret); err != nil {
		return nil, fmt.Errorf("reading Secret %s, which the chart creates: %w", key, err)
	}
	current, err := parse(secret.Data, r.options.dnsName(), now)
	if err == nil && now.Add(r.options.Lookahead).Before(current.until) {
		return current, nil
	}
	data, issueErr := r.options.issue(secret.Data, now)
	if issueErr != nil {
		return current, issueErr
	}
	why := "it is due"
	if err != nil {
		why = err.Error()
	}
	renewed := secret.DeepCopy() // carries the resourceVersion: of two replicas one wins
	renewed.Data = data
	switch err := r.writer.Update(ctx, renewed); {
	case apierrors.IsConflict(err):
		r.log.V(1).Info("another replica renewed the serving certificate")
		return current, nil
	case err != nil && current != nil:
		r.log.Error(err, "renewing the serving certificate, which still holds", "until", current.until)
		return current, nil
	case err != nil:
		return nil, fmt.Errorf("writing Secret %s: %w", key, err)
	}
	r.log.Info("renewed the serving certificate", "secret", key, "why", why)
	return parse(data, r.options.dnsName(), now)
}
