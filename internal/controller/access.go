package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Answers about service accounts are kept as long as istiod keeps its own. Their number in one pass is limited.
const (
	allowedFor   = 5 * time.Minute
	deniedFor    = time.Minute
	maxReviews   = 16
	pauseReviews = time.Second
)

// access is the API server's answer about a service account.
type access struct {
	allowed bool
	until   time.Time
}

// authorize checks each service account to which Istio delivers a client certificate. Istiod delivers it only to an
// account that may list all Secrets of the namespace, a right that redis-tls does not grant. Without the right the
// sidecar has no certificate and reports nothing, so an Event does.
func (p *pass) authorize(ctx context.Context) error {
	answers := map[string]access{}
	reviews := 0
	var errs []error
	for claim := range p.requests() {
		if !claim.TLS.SDS || claim.TLS.ClientSecret == "" {
			continue
		}
		pod, known := p.View.Pod(p.namespace, claim.Pod)
		if !known {
			continue
		}
		account := cmp.Or(pod.ServiceAccountName, origination.DefaultServiceAccount)
		answer, found := answers[account]
		if !found {
			answer, found = p.memory.access[account]
			found = found && p.now.Before(answer.until)
		}
		if !found {
			if reviews++; reviews > maxReviews {
				p.requeue(pauseReviews)
				continue
			}
			var err error
			if answer, err = p.reviewAccess(ctx, account); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		answers[account] = answer
		p.requeue(answer.until.Sub(p.now))
		if !answer.allowed {
			p.reportAccessDenied(claim, account)
		}
	}
	p.memory.access = answers
	return errors.Join(errs...)
}

// requests yields the served requests of live pods. Unlike the claims, a key occurs once for each service account.
func (p *pass) requests() iter.Seq[*mesh.Claim] {
	return func(yield func(*mesh.Claim) bool) {
		for _, r := range p.snap.Live {
			for i := range r.Originations {
				o := &r.Originations[i]
				if p.served[o.Key] && !yield(&mesh.Claim{Origination: o, Pod: r.Pod, Since: r.Since}) {
					return
				}
			}
		}
	}
}

// reviewAccess sends the review that istiod sends (CredentialsController.Authorize in pilot/pkg/credentials/kube). It
// has only the user, without the groups of a service account.
func (p *pass) reviewAccess(ctx context.Context, account string) (access, error) {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: "system:serviceaccount:" + p.namespace + ":" + account,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: p.namespace,
			Verb:      "list",
			Resource:  "secrets",
		},
	}}
	if err := p.Client.Create(ctx, review); err != nil {
		return access{}, fmt.Errorf("reviewing whether service account %s/%s may list Secrets: %w", p.namespace, account, err)
	}
	if review.Status.Allowed {
		return access{true, p.now.Add(allowedFor)}, nil
	}
	return access{false, p.now.Add(deniedFor)}, nil
}

func (p *pass) reportAccessDenied(claim *mesh.Claim, account string) {
	p.report(event{
		regarding: p.owner(claim.Pod),
		related:   p.object(kindRule, claim.RuleName()),
		eventType: corev1.EventTypeWarning,
		reason:    origination.ReasonSecretAccessDenied,
		action:    actionDeliver,
		note: fmt.Sprintf("pod %s cannot reach host %s without its client certificate in Secret %s. "+
			"Istio delivers it only to a service account that may list all Secrets of the namespace, and %s may not. "+
			`Set %s: "mount", or grant %s the right`,
			claim.Pod, claim.Host, claim.TLS.ClientSecret, account,
			origination.KeyOf(claim.Instances[0], "delivery"), account),
	})
}
