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

// How long an answer about a service account is kept, as long as istiod keeps its own, and how many are
// asked for in one pass.
const (
	allowedFor  = 5 * time.Minute
	deniedFor   = time.Minute
	asksInAPass = 16
	asksAgain   = time.Second
)

// access is what the API server answered of a service account.
type access struct {
	allowed bool
	until   time.Time
}

// authorize asks for every service account to which Istio is to deliver a client certificate whether istiod
// will: it demands the right to list all Secrets of the namespace, which nobody gets from us. Who lacks it is
// told: the sidecar itself only goes without.
func (p *pass) authorize(ctx context.Context) error {
	answers := map[string]access{}
	asked := 0
	var errs []error
	for claim := range p.requests() {
		if !claim.TLS.SDS || claim.TLS.ClientSecret == "" {
			continue
		}
		pod, known := p.View.Pod(p.namespace, claim.Pod)
		if !known {
			continue
		}
		account := cmp.Or(pod.Spec.ServiceAccountName, origination.DefaultServiceAccount)
		answer, found := answers[account]
		if !found {
			answer, found = p.memory.access[account]
			found = found && p.now.Before(answer.until)
		}
		if !found {
			if asked++; asked > asksInAPass {
				p.repeat(asksAgain)
				continue
			}
			var err error
			if answer, err = p.ask(ctx, account); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		answers[account] = answer
		p.repeat(answer.until.Sub(p.now))
		if !answer.allowed {
			p.sayUnauthorized(claim, account)
		}
	}
	p.memory.access = answers
	return errors.Join(errs...)
}

// requests yields what live pods request that is served: unlike the claims, a key for each service account.
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

// ask asks as istiod does (CredentialsController.Authorize in its pilot/pkg/credentials/kube): of the user
// alone, without the groups of a service account.
func (p *pass) ask(ctx context.Context, account string) (access, error) {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User:               "system:serviceaccount:" + p.namespace + ":" + account,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: p.namespace, Verb: "list", Resource: "secrets"},
	}}
	if err := p.Client.Create(ctx, review); err != nil {
		return access{}, fmt.Errorf("asking whether service account %s/%s may list secrets: %w", p.namespace, account, err)
	}
	if review.Status.Allowed {
		return access{true, p.now.Add(allowedFor)}, nil
	}
	return access{false, p.now.Add(deniedFor)}, nil
}

func (p *pass) sayUnauthorized(claim *mesh.Claim, account string) {
	p.say(note{regarding: p.owner(claim.Pod), related: p.object(kindRule, claim.RuleName()), kind: corev1.EventTypeWarning,
		reason: origination.ReasonSecretAccessDenied, action: actionDeliver,
		text: fmt.Sprintf("pod %s cannot reach host %s: its client certificate, Secret %s, is to come by secret discovery, and Istio delivers one only to a service account that may list all Secrets of the namespace, which %s may not; "+
			`set %s: "mount", or have the namespace's administrator grant it`,
			claim.Pod, claim.Host, claim.TLS.ClientSecret, account, origination.KeyOf(claim.Instances[0], "delivery"))})
}
