package describe

import (
	"fmt"
	"slices"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// objectName identifies a mesh object of the namespace.
type objectName struct{ kind, name string }

// objects adds the mesh objects of a new pod and of the requests of live pods to the item. It returns their names.
func (r *run) objects(
	item *Item, namespace string, decision inject.Decision, admitted []mesh.Request,
) map[objectName]bool {
	snap := r.Cluster.Snapshot(namespace)
	known := map[objectName]bool{}
	add := func(request mesh.Request, needed bool) {
		states, refused := mesh.States(request, snap, r.Cluster.Config, r.Cluster.At)
		for _, s := range states {
			o := r.object(s, needed)
			if name := (objectName{o.Kind, o.Name}); !known[name] {
				known[name] = true
				item.Objects = append(item.Objects, o)
			}
		}
		if r.assumes(namespace) {
			refused = nil
		}
		for _, refusal := range refused {
			p := problemOf(refusal.Problem)
			p.Message = fmt.Sprintf("pod %s: %s", refusal.Claim.Pod, p.Message)
			if !slices.Contains(item.Problems, p) {
				item.Problems = append(item.Problems, p)
			}
		}
	}
	for _, request := range admitted {
		add(request, true)
	}
	if decision.Reason == origination.ReasonInjected {
		add(mesh.Request{
			Originations: decision.Originations,
			Settings:     decision.Settings,
			Pod:          "new",
			Since:        r.Cluster.At,
		}, false)
	}
	return known
}

// object returns an object with its state. If it is not needed by a live pod, it may not exist yet.
func (r *run) object(s mesh.ObjectState, needed bool) Object {
	gvk := s.Desired.GetObjectKind().GroupVersionKind()
	o := Object{Kind: gvk.Kind, Name: s.Desired.GetName(), State: string(s.State), Purpose: purpose(s.Desired)}
	plural, _ := meta.UnsafeGuessKindToResource(gvk)
	switch {
	case r.Cluster.Offline():
		o.State = statePlanned
	case s.State == mesh.StateMissing && slices.Contains(r.Cluster.Absent(), gvk.Group):
		o.Detail = "the API server does not serve " + gvk.Group
	case s.State == mesh.StateMissing && r.Cluster.IsDenied(gvk.Group, plural.Resource, s.Desired.GetNamespace()):
		o.State = stateUnknown
	case s.State == mesh.StateMissing && !needed:
		o.State = statePlanned
	}
	switch mesh.State(o.State) {
	case mesh.StateMissing:
		if o.Detail == "" {
			o.Detail = "the controller creates it again; if it stays missing, see the Events"
		}
	case mesh.StateEdited:
		o.Detail = "the spec is not the one of redis-tls; the controller repairs it"
	case mesh.StateMarked:
		o.Detail = "will be deleted, because no live pod uses it"
		if needed {
			o.Detail = "is being deleted; the controller creates it again"
		}
	case mesh.StateUnmanaged:
		o.Detail = fmt.Sprintf("has a name of redis-tls but not the label %s: %s; delete or rename it",
			origination.ManagedByLabel, origination.ManagedBy)
	case mesh.StateUnacknowledged:
		o.Detail = "istiod does not read the namespace, or allocates no addresses; run redis-tls check"
	case mesh.StateYoung:
		o.Detail = "accepted " + ago(r.Cluster.At.Sub(mesh.AcceptedAt(s.Found))) + " ago, firstUse.delay is " +
			r.Cluster.Config.FirstUse.Delay.Duration.String()
	}
	switch o.State {
	case statePlanned:
		o.Detail = "created with the first pod"
	case stateUnknown:
		o.Detail = "not readable with your rights"
	}
	return o
}

// purpose says what a managed object is for.
func purpose(o mesh.Object) string {
	switch typed := o.(type) {
	case *networkingv1.ServiceEntry:
		if mesh.IsAcknowledgement(typed) {
			return "acknowledgement of istiod"
		}
		host := typed.Spec.Hosts[0]
		if strings.HasSuffix(host, origination.VIPSuffix) {
			name := strings.TrimSuffix(host, origination.VIPSuffix)
			return "VIP of " + name[:max(0, strings.LastIndexByte(name, '.'))]
		}
		if strings.HasSuffix(host, origination.AtomSuffix) {
			return "addresses " + strings.Join(typed.Spec.Addresses, ",")
		}
		return "host " + host
	case *networkingv1.DestinationRule:
		switch {
		case o.GetName() == origination.ClosedName:
			return "closed rule of the namespace"
		case strings.HasPrefix(o.GetName(), origination.ClosedName+"-"):
			return "closed rule of the key"
		}
		return "TLS settings"
	case *networkingv1.VirtualService:
		return "route"
	case *networkingv1.Sidecar:
		return "egress limit"
	}
	switch o.GetObjectKind().GroupVersionKind().Kind {
	case "PeerAuthentication":
		return "mutual TLS to the server"
	default:
		return "client certificate"
	}
}

// findings are the states of objects that are wrong.
var findings = []mesh.State{mesh.StateMissing, mesh.StateEdited, mesh.StateUnmanaged, mesh.StateUnacknowledged}

// hasFindings reports whether a new pod is refused, or something that a live pod needs is missing or wrong.
func (item *Item) hasFindings() bool {
	if item.Decision.Outcome == string(origination.OutcomeRefused) || len(item.Problems) > 0 {
		return true
	}
	return slices.ContainsFunc(item.Objects, func(o Object) bool {
		return slices.Contains(findings, mesh.State(o.State))
	}) || slices.ContainsFunc(item.Files, func(f File) bool { return f.State == fileMissing || f.State == fileMissingKey })
}
