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

// errBehind says that the cache has not yet what another replica wrote. Its event will bring us back.
var errBehind = errors.New("the cache is behind the API server")

// reconcile looks at the Secret, renews it where that is ours to do and due, has the API server trust its CA and that
// of the certificate that is served, and goes over to the Secret's once API servers have had the time to see it.
// Where the Secret or its certificate is broken or gone, the one that is served stays. It returns how long nothing
// more is to be done, and what went wrong.
func (r *Rotator) reconcile(ctx context.Context) (time.Duration, error) {
	now, held := r.options.Now(), r.serving.Load()
	offered, err := r.offered(ctx, held, now)
	r.metrics.failed(metrics.CertificateSecret, err)
	untold := r.trust(ctx, unended(merged(offered.authorities(), held.authorities()), now), now)
	r.metrics.failed(metrics.CertificateConfiguration, untold)

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
	r.metrics.serves(serving, trusted)
	return wait, errors.Join(err, untold)
}

// trust has the API server trust the CAs, and takes note of those that it does.
func (r *Rotator) trust(ctx context.Context, needed []*x509.Certificate, now time.Time) error {
	found, err := r.found(ctx)
	if err != nil {
		r.seen = r.seen.observe(&configuration{}, now)
		return err
	}
	r.seen = r.seen.observe(found, now)
	published, err := r.publish(ctx, found, needed, now)
	if err != nil {
		return err
	}
	if former, _ := carried(found); !r.joined && len(former) > 0 && published != found {
		// We hold nothing but a certificate of a CA that is new here. Others may still serve one of a former:
		// they answer until API servers have had the time to see ours.
		r.readyFrom.Store(now.Add(min(r.options.PropagationDelay, newcomer)).UnixNano())
	}
	r.seen = r.seen.observe(published, now)
	return nil
}

// adopt serves the offered certificate, unless the one that is served still holds and API servers may not yet
// have seen the CA of the new one. Then it returns the rest of the wait.
func (r *Rotator) adopt(offered *certificate, now time.Time) time.Duration {
	held := r.serving.Load()
	if offered == nil {
		return checkEvery
	}
	if held.validAt(now) && !held.same(offered) {
		since, trusted := r.seen.trust(offered)
		if !trusted {
			return checkEvery // publishing has failed, and is tried again
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

// offered returns what the Secret holds, renewed where due; nil with an error when that cannot be served.
func (r *Rotator) offered(ctx context.Context, held *certificate, now time.Time) (*certificate, error) {
	var secret corev1.Secret
	err := r.reader.Get(ctx, r.options.secretKey(), &secret)
	if apierrors.IsNotFound(err) {
		return nil, r.missing(ctx, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", r.options.secretKey(), err)
	}
	offered, wrong := r.options.parse(secret.Data, now)
	if r.options.Mode != SelfSigned {
		return offered, wrong
	}
	_, noCA := r.options.usableCA(secret.Data, now)
	if wrong == nil && noCA == nil && now.Add(r.options.Lookahead).Before(offered.until) {
		return offered, nil
	}
	renewed, err := r.renew(ctx, &secret, held, now)
	switch {
	case err == nil:
		return renewed, nil
	case errors.Is(err, errBehind):
		return offered, err
	default:
		return offered, errors.Join(wrong, err)
	}
}

// renew writes the Secret anew. It carries the resourceVersion that was read, so of several replicas one wins.
func (r *Rotator) renew(ctx context.Context, secret *corev1.Secret, held *certificate, now time.Time) (*certificate, error) {
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

// missing is what is to be said and done when there is no Secret. Ours is made again, empty, as the chart makes it,
// and filled at the event of that, so that of several replicas one wins. It is not while the configuration is
// gone too: then we are being uninstalled.
func (r *Rotator) missing(ctx context.Context, err error) error {
	switch r.options.Mode {
	case CertManager:
		return fmt.Errorf("reading Secret %s, which cert-manager makes for the chart's Certificate (kubectl describe certificate -n %s): %w",
			r.options.secretKey(), r.options.Namespace, err)
	case Provided:
		return fmt.Errorf("reading Secret %s, which must be provided, with %s, %s and %s: %w", r.options.secretKey(), keyCert, keyPriv, keyCA, err)
	}
	if _, err := r.found(ctx); err != nil {
		return fmt.Errorf("making Secret %s, which is gone: %w", r.options.secretKey(), err)
	}
	empty := corev1ac.Secret(r.options.Secret, r.options.Namespace).WithType(corev1.SecretTypeOpaque)
	if err := r.live.Apply(ctx, empty, fieldManager); err != nil {
		return fmt.Errorf("making Secret %s, which is gone: %w", r.options.secretKey(), err)
	}
	r.log.Info("made the Secret again, which was gone", "secret", r.options.secretKey())
	return errBehind
}
