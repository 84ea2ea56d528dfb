package servingcert

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/redis-tls/redis-tls/internal/metrics"
)

// errBehind means that the cache lacks a write of another replica. The event of that write triggers the next pass.
var errBehind = errors.New("the cache is behind the API server")

// reconcile renews the Secret's certificate if it is due, publishes its CA and the CA of the served certificate, and
// serves the Secret's certificate once the API servers had time to see its CA. If the Secret or its certificate is
// broken or missing, the served certificate stays. It returns the time until the next pass, and the joined errors.
func (r *Rotator) reconcile(ctx context.Context) (time.Duration, error) {
	now, held := r.options.Now(), r.serving.Load()
	offered, err := r.offered(ctx, held, now)
	r.metrics.countError(metrics.CertificateSecret, err)
	publishErr := r.trust(ctx, unexpired(merged(offered.authorities(), held.authorities()), now), now)
	r.metrics.countError(metrics.CertificateConfiguration, publishErr)

	wait := r.adopt(offered, now)
	serving := r.serving.Load()
	_, trusted := r.seen.trust(serving)
	switch {
	case trusted:
		r.joined = true
		r.trusted.Store(true)
	case !serving.same(held):
		r.trusted.Store(false)
	}
	r.metrics.setServing(serving, trusted)
	return wait, errors.Join(err, publishErr)
}

// trust publishes the CAs, and updates the sightings.
func (r *Rotator) trust(ctx context.Context, needed []*x509.Certificate, now time.Time) error {
	found, err := r.readConfiguration(ctx)
	if err != nil {
		r.seen = r.seen.observe(&configuration{}, now)
		return err
	}
	r.seen = r.seen.observe(found, now)
	published, err := r.publish(ctx, found, needed, now)
	if err != nil {
		return err
	}
	if former, _ := trustedBy(found); !r.joined && len(former) > 0 && published != found {
		// This replica has only a certificate of a new CA. Other replicas may still serve one of a previous CA. They answer
		// until the API servers had time to see the new CA.
		r.readyFrom.Store(now.Add(min(r.options.PropagationDelay, readyDelay)).UnixNano())
	}
	r.seen = r.seen.observe(published, now)
	return nil
}

// adopt serves the offered certificate, unless the served one is valid and the API servers may not have seen the new
// CA. It returns the time to wait.
func (r *Rotator) adopt(offered *certificate, now time.Time) time.Duration {
	held := r.serving.Load()
	if offered == nil {
		return checkEvery
	}
	if held.validAt(now) && !held.same(offered) {
		since, trusted := r.seen.trust(offered)
		if !trusted {
			return checkEvery // publishing failed and is tried again
		}
		if left := since.Add(r.options.PropagationDelay).Sub(now); left > 0 {
			return min(left, held.until.Sub(now))
		}
	}
	if !held.same(offered) {
		r.log.Info("serving another certificate", "until", offered.until)
	}
	r.serving.Store(offered)
	return checkEvery
}

// offered returns the Secret's certificate, renewed if due. If it cannot be served, it returns nil and an error.
func (r *Rotator) offered(ctx context.Context, held *certificate, now time.Time) (*certificate, error) {
	var secret corev1.Secret
	err := r.reader.Get(ctx, r.options.secretKey(), &secret)
	if apierrors.IsNotFound(err) {
		return nil, r.missing(ctx, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", r.options.secretKey(), err)
	}
	offered, parseErr := r.options.parse(secret.Data, now)
	if r.options.Mode != SelfSigned {
		return offered, parseErr
	}
	_, caErr := r.options.usableCA(secret.Data, now)
	if parseErr == nil && caErr == nil && now.Add(r.options.Lookahead).Before(offered.until) {
		return offered, nil
	}
	renewed, err := r.renew(ctx, &secret, held, now)
	switch {
	case err == nil:
		return renewed, nil
	case errors.Is(err, errBehind):
		return offered, err
	default:
		return offered, errors.Join(parseErr, err)
	}
}

// renew writes a new certificate to the Secret. It uses the resourceVersion that was read, so one of several replicas
// succeeds.
func (r *Rotator) renew(
	ctx context.Context,
	secret *corev1.Secret,
	held *certificate,
	now time.Time,
) (*certificate, error) {
	data, err := r.options.issue(secret.Data, held.authorities(), now)
	if err != nil {
		return nil, err
	}
	renewed := secret.DeepCopy()
	renewed.Data = data
	err = r.live.Update(ctx, renewed, fieldManager)
	if apierrors.IsConflict(err) {
		return nil, errBehind
	}
	if err != nil {
		return nil, fmt.Errorf("writing Secret %s: %w", r.options.secretKey(), err)
	}
	r.log.Info("renewed the serving certificate", "secret", r.options.secretKey())
	return r.options.parse(data, now)
}

// missing handles a missing Secret. In mode self-signed it creates the Secret again, empty, as the chart does. The
// event of that fills it, so one of several replicas succeeds. If the configuration is missing too, redis-tls is being
// uninstalled, and missing creates nothing.
func (r *Rotator) missing(ctx context.Context, err error) error {
	switch r.options.Mode {
	case CertManager:
		return fmt.Errorf(
			"reading Secret %s, which cert-manager creates for the chart's Certificate (kubectl describe certificate -n %s): %w",
			r.options.secretKey(),
			r.options.Namespace,
			err,
		)
	case Provided:
		return fmt.Errorf(
			"reading Secret %s, which must be created with the keys %s, %s and %s: %w",
			r.options.secretKey(),
			keyCert,
			keyPriv,
			keyCA,
			err,
		)
	}
	if _, err := r.readConfiguration(ctx); err != nil {
		return fmt.Errorf("creating the missing Secret %s: %w", r.options.secretKey(), err)
	}
	empty := corev1ac.Secret(r.options.Secret, r.options.Namespace).WithType(corev1.SecretTypeOpaque)
	if err := r.live.Apply(ctx, empty, fieldManager); err != nil {
		return fmt.Errorf("creating the missing Secret %s: %w", r.options.secretKey(), err)
	}
	r.log.Info("created the missing Secret", "secret", r.options.secretKey())
	return errBehind
}
