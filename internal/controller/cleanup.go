package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/metrics"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// pageSize is how many pods are listed at once before a deletion.
const pageSize = 500

// cleanup removes objects that no live pod uses. After the grace period an object is marked, and the webhook treats it
// as missing. After the delay it is deleted if a live list of pods confirms that it is unused.
func (p *pass) cleanup(ctx context.Context) error {
	use := p.use(p.live, &p.desired)
	var errs []error
	var unused, due []object
	for _, k := range slices.Backward(kinds) {
		for _, o := range p.known[k] {
			switch {
			case !mesh.IsManaged(o):
			case !use.holds(o):
				unused = append(unused, o)
			case o.recorded() && !use.wants(o): // apply has done it for what is desired
				errs = append(errs, ignoreReported(p.record(ctx, o, reused, metrics.WriteUnmarked)))
			}
		}
	}
	since := p.unusedSince(unused)
	surplus := p.surplus(unused, since)
	for _, o := range unused {
		grace := p.Config.Cleanup.GracePeriod.Duration
		if surplus[o.group()] {
			grace = min(grace, recordAfter)
		}
		ripe, err := p.markUnused(ctx, o, since[o.GetUID()], grace)
		errs = append(errs, err)
		if ripe {
			due = append(due, o)
		}
	}
	p.memory.unused = since
	if len(due) > 0 {
		errs = append(errs, p.remove(ctx, due))
	}
	p.countObjects(use)
	return errors.Join(errs...)
}

// inUse are the objects that live pods may use: the desired ones, and those that pods with an unresolved or refused
// request refer to. A pod keeps the objects that it was admitted with as long as it lives.
type inUse struct {
	desired map[*kind]map[string]bool
	// labels are the managed labels of such pods. groups are the groups of the rules and VIPs that they refer to.
	labels, groups map[string]bool
	unresolved     bool
}

// use returns the objects that these live pods may use.
func (p *pass) use(live *cluster.Live, desired *mesh.Desired) inUse {
	use := inUse{
		desired:    map[*kind]map[string]bool{},
		labels:     map[string]bool{},
		groups:     make(map[string]bool, len(live.Marks.VIPs)),
		unresolved: len(live.Unresolved) > 0,
	}
	for _, k := range kinds {
		names := make(map[string]bool, len(p.known[k])) // mostly as many as are desired
		for o := range k.desired(desired) {
			names[o.GetName()] = true
		}
		use.desired[k] = names
	}
	maps.Copy(use.labels, live.Marks.Unresolved)
	for key := range refusedKeys(desired) {
		use.labels[origination.LabelKeyPrefix+key] = true
	}
	for label := range use.labels {
		if key, found := strings.CutPrefix(label, origination.LabelKeyPrefix); found {
			use.groups[key] = true
		}
	}
	if len(use.labels) > 0 {
		for _, rule := range p.known[kindRule] {
			if use.labels[selectedLabel(rule)] && mesh.IsManaged(rule) {
				use.groups[rule.group()] = true
			}
		}
	}
	vips := make(map[netip.Addr]bool, len(live.Marks.VIPs))
	for _, vip := range live.Marks.VIPs {
		vips[vip], use.groups[namespaceGroup] = true, true
	}
	for _, entry := range p.known[kindEntry] {
		for _, text := range entry.Object.(*networkingv1.ServiceEntry).Spec.Addresses {
			if vip, err := netip.ParseAddr(text); err == nil && vips[vip] {
				use.groups[entry.group()] = true
			}
		}
	}
	return use
}

// namespaceGroup is the group of the namespace's closed rule.
const namespaceGroup = "*"

// holds reports whether an object is in use.
func (use inUse) holds(o object) bool {
	if use.wants(o) {
		return true
	}
	switch o.kind {
	case kindCertificate: // an unresolved request does not name the Certificate of its Secret
		return use.unresolved
	case kindPeer:
		return use.labels[origination.LabelServer]
	case kindSidecar:
		for label := range use.labels {
			if strings.HasPrefix(label, origination.LabelEgressPrefix) && origination.EgressNameOf(label) == o.GetName() {
				return true
			}
		}
		return false
	case kindRule: // but not the rules of other keys on the same addresses or host
		label := selectedLabel(o)
		return use.labels[label] || use.groups[o.group()] && (label == "" || label == origination.LabelKeyPrefix+o.group())
	default:
		return use.groups[o.group()]
	}
}

// wants reports whether the object is desired.
func (use inUse) wants(o object) bool { return use.desired[o.kind][o.GetName()] }

// remove deletes the objects that a live list of pods finds unused too, an entry before its rules. A rule without its
// entry does nothing, but an entry without its rule sends plaintext to a TLS port. So an unused entry that is not due,
// because it could not be marked with the others, keeps its rules.
func (p *pass) remove(ctx context.Context, due []object) error {
	use, err := p.liveUse(ctx)
	if err != nil {
		return err
	}
	var errs []error
	entries := map[string]int{} // of each group, the unused ones that remain; a key has one for each of its names
	for _, entry := range p.known[kindEntry] {
		if mesh.IsManaged(entry) && !use.holds(entry) {
			entries[entry.group()]++
		}
	}
	for _, o := range due { // entries come first
		if use.holds(o) {
			p.requeue(pauseInUse) // until then the cache has the pod, and the mark is removed
			entries[o.group()]++
			continue
		}
		if o.kind != kindEntry && entries[o.group()] > 0 {
			continue
		}
		switch err := p.delete(ctx, o); {
		case err != nil:
			errs = append(errs, ignoreReported(err))
		case o.kind == kindEntry:
			entries[o.group()]--
		}
	}
	return errors.Join(errs...)
}

// liveUse returns the objects in use by a consistent list of pods from the API server.
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
			live := p.View.LiveOf(p.namespace, pods)
			desired := p.desireOf(live)
			return p.use(live, &desired), nil
		}
		page = &corev1.PodList{ListMeta: page.ListMeta}
	}
}

// delete deletes the object if it is still the version that was read.
func (p *pass) delete(ctx context.Context, o object) error {
	uid, version := o.GetUID(), o.GetResourceVersion()
	err := p.Client.Delete(ctx, o.clone().Object, client.Preconditions{UID: &uid, ResourceVersion: &version})
	switch {
	case apierrors.IsNotFound(err):
	case apierrors.IsConflict(err):
		p.Metrics.applied(o.Kind, metrics.WriteConflict)
		p.requeue(pauseConflict)
		return errNotApplied
	case err != nil:
		p.Metrics.applied(o.Kind, metrics.WriteFailed)
		return fmt.Errorf("deleting %s %s/%s: %w", o.Kind, p.namespace, o.GetName(), err)
	default:
		p.Metrics.applied(o.Kind, metrics.WriteDeleted)
		p.reportDeleted(o)
	}
	return nil
}

// ignoreReported drops errNotApplied, whose cause is reported already.
func ignoreReported(err error) error {
	if errors.Is(err, errNotApplied) {
		return nil
	}
	return err
}
