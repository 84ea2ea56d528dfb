package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/metrics"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// pageSize is how many pods are listed at once before a deletion.
const pageSize = 500

// cleanup removes what no live pod uses: after the grace period an object is marked, which the webhook
// counts as missing, and after the delay it is deleted, if a live list agrees that nobody uses it.
func (p *pass) cleanup(ctx context.Context) error {
	use := inUse{cluster.Hold(p.Claims, p.rejected), p.desired}
	unclaimed := map[types.UID]time.Time{}
	var errs []error
	var due []object
	for _, k := range slices.Backward(kinds) {
		for _, o := range p.objects(k) {
			if !mesh.Owned(o) {
				continue
			}
			if p.holds(use, o) {
				errs = append(errs, p.unmark(ctx, o))
				continue
			}
			ripe, err := p.ripen(ctx, o, unclaimed)
			errs = append(errs, err)
			if ripe {
				due = append(due, o)
			}
		}
	}
	p.memory.unclaimed = unclaimed
	if len(due) > 0 {
		errs = append(errs, p.remove(ctx, due))
	}
	p.countObjects(use)
	return errors.Join(errs...)
}

// inUse is what live pods may be using: what is desired for them, what their claims name also when they
// are refused, and what the pods hold whose status is not believed.
type inUse struct {
	cluster.Held
	desired mesh.Desired
}

// holds reports whether an object is in use. A rejected pod's label holds the rule that it selects, and
// the entry and route that the rule belongs to.
func (p *pass) holds(use inUse, o object) bool {
	if use.Name(o.GetName()) || use.wants(o) || o.kind == kindCertificate && use.Unread {
		return true
	}
	for _, rule := range p.around.Rules {
		if rule.Namespace == p.namespace && rule.Spec.Host == o.host && mesh.Owned(rule) &&
			(o.kind != kindRule || rule.Name == o.GetName()) && use.Selects(rule.Spec.GetWorkloadSelector().GetMatchLabels()) {
			return true
		}
	}
	return false
}

// wants reports whether the object is desired.
func (use inUse) wants(o object) bool {
	return slices.ContainsFunc(o.desired(&use.desired), func(d object) bool { return d.GetName() == o.GetName() })
}

// unmark takes the mark off an object that is in use again. What apply has just applied has none.
func (p *pass) unmark(ctx context.Context, o object) error {
	if o.mark() == "" {
		return nil
	}
	return quiet(p.send(ctx, o.marked(""), o, metrics.WriteUnmarked))
}

// ripen marks an unclaimed object when the grace period is over, and reports when the delay is over too.
func (p *pass) ripen(ctx context.Context, o object, unclaimed map[types.UID]time.Time) (bool, error) {
	if o.GetDeletionTimestamp() != nil { // somebody's finalizer holds it
		return false, nil
	}
	if mark, err := time.Parse(time.RFC3339, o.mark()); err == nil {
		left := p.Config.Cleanup.Delay.Duration - p.now.Sub(mark)
		if left > 0 {
			p.repeat(min(left, p.Config.Cleanup.Delay.Duration))
		}
		return left <= 0, nil
	}
	since, ok := p.memory.unclaimed[o.GetUID()]
	if !ok {
		since = p.now
	}
	unclaimed[o.GetUID()] = since
	if left := p.Config.Cleanup.GracePeriod.Duration - p.now.Sub(since); left > 0 {
		p.repeat(left)
		return false, nil
	}
	p.repeat(p.Config.Cleanup.Delay.Duration)
	return false, quiet(p.send(ctx, o.marked(p.now.UTC().Format(time.RFC3339)), o, metrics.WriteMarked))
}

// remove deletes the objects that also a live list finds unused, an entry before its rules: a rule without
// its entry does nothing, an entry without its rule would lead plaintext to a TLS port.
func (p *pass) remove(ctx context.Context, due []object) error {
	use, err := p.liveUse(ctx)
	if err != nil {
		return err
	}
	var errs []error
	kept := map[string]bool{} // hosts of which the entry could not be deleted
	for _, o := range due {   // entries come first
		if p.holds(use, o) {
			p.repeat(untilHealed) // the cache will catch up, and the mark be taken off
			kept[o.host] = true
			continue
		}
		if o.kind != kindEntry && kept[o.host] {
			continue
		}
		if err := p.delete(ctx, o); err != nil {
			kept[o.host] = true
			errs = append(errs, quiet(err))
		}
	}
	return errors.Join(errs...)
}

// liveUse asks the API server itself, by a consistent list, what live pods may be using.
func (p *pass) liveUse(ctx context.Context) (inUse, error) {
	var pods []*cluster.Pod
	page := &corev1.PodList{}
	for {
		err := p.Live.List(ctx, page, client.InNamespace(p.namespace), client.Limit(pageSize), client.Continue(page.Continue),
			client.MatchingLabels{origination.LabelInjected: "true"})
		if err != nil {
			return inUse{}, fmt.Errorf("listing the pods of namespace %s before deleting: %w", p.namespace, err)
		}
		for i := range page.Items {
			pods = append(pods, cluster.Trim(&page.Items[i]))
		}
		if page.Continue == "" {
			admitted, rejected := cluster.AdmittedOf(pods, p.Config)
			return inUse{cluster.Hold(admitted.Claims, rejected), p.desire(admitted)}, nil
		}
		page = &corev1.PodList{ListMeta: page.ListMeta}
	}
}

// delete deletes exactly the object that was looked at.
func (p *pass) delete(ctx context.Context, o object) error {
	uid, version := o.GetUID(), o.GetResourceVersion()
	err := p.Client.Delete(ctx, o.clone().Object, client.Preconditions{UID: &uid, ResourceVersion: &version})
	switch {
	case apierrors.IsNotFound(err):
	case apierrors.IsConflict(err):
		p.Metrics.applied(o.Kind, metrics.WriteConflict)
		p.repeat(untilCaught)
		return errNotApplied
	case err != nil:
		p.Metrics.applied(o.Kind, metrics.WriteFailed)
		return fmt.Errorf("deleting %s %s/%s: %w", o.Kind, p.namespace, o.GetName(), err)
	default:
		p.Metrics.applied(o.Kind, metrics.WriteDeleted)
		p.sayDeleted(o)
	}
	p.unlearn(o)
	return nil
}

// quiet drops the error of what was said already.
func quiet(err error) error {
	if errors.Is(err, errNotApplied) {
		return nil
	}
	return err
}
