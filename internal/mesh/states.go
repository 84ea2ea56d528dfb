package mesh

import (
	"reflect"
	"slices"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/redis-tls/redis-tls/internal/config"
)

// State is the state of an object in the cluster, compared with the desired one.
type State string

// The states. If several apply, the first one counts.
const (
	StateMissing        State = "missing"
	StateUnmanaged      State = "unmanaged"      // it has the name, but not the label
	StateMarked         State = "marked"         // it will be deleted, or is being deleted
	StateEdited         State = "edited"         // its spec is not the desired one
	StateUnacknowledged State = "unacknowledged" // istiod has allocated no address for the acknowledgement
	StateYoung          State = "young"          // accepted less than firstUse.delay ago
	StateInForce        State = "in force"
)

// ObjectState is an object that a request needs, and its state.
type ObjectState struct {
	// Desired is the object as the controller would apply it.
	Desired Object
	// Found is the object in the cluster, or nil.
	Found Object
	State State
}

// States returns the objects that the pods of a request need, with their states, in the order of [Desired.All], and the
// originations that get none. The request need not be that of a live pod. Other live pods are taken into account where
// they share objects, as with protocol http.
func States(r Request, snap *Snapshot, cfg config.Config, now time.Time) ([]ObjectState, []Refusal) {
	only, with := *snap, *snap
	only.Live = []Request{r}
	with.Live = append(slices.Clone(snap.Live), r)
	mine, all := Objects(&only, cfg), Objects(&with, cfg)
	s := states{snap: snap, now: now, delay: cfg.FirstUse.Delay.Duration}
	addStates(&s, mine.Entries, all.Entries, snap.Entries, func(a, b *networkingv1.ServiceEntry) bool {
		return proto.Equal(&a.Spec, &b.Spec)
	})
	addStates(&s, mine.Routes, all.Routes, snap.Routes, func(a, b *networkingv1.VirtualService) bool {
		return proto.Equal(&a.Spec, &b.Spec)
	})
	addStates(&s, mine.Rules, all.Rules, snap.Rules, func(a, b *networkingv1.DestinationRule) bool {
		return proto.Equal(&a.Spec, &b.Spec)
	})
	addStates(&s, mine.Sidecars, all.Sidecars, snap.Sidecars, func(a, b *networkingv1.Sidecar) bool {
		return proto.Equal(&a.Spec, &b.Spec)
	})
	addStates(&s, mine.Peers, all.Peers, snap.Peers, func(a, b *securityv1.PeerAuthentication) bool {
		return proto.Equal(&a.Spec, &b.Spec)
	})
	addStates(&s, mine.Certificates, all.Certificates, snap.Certificates, func(a, b *certmanagerv1.Certificate) bool {
		return reflect.DeepEqual(a.Spec, b.Spec) || equality.Semantic.DeepEqual(a.Spec, b.Spec)
	})
	return s.all, mine.Refused
}

type states struct {
	snap  *Snapshot
	now   time.Time
	delay time.Duration
	all   []ObjectState
}

// addStates adds the objects of one kind. Mine are those of the request, as only its pods need them, desired those that
// all live pods need, and existing those of the cluster.
func addStates[T Object](s *states, mine, desired, existing []T, same func(a, b T) bool) {
	find := func(objects []T, want T) int {
		return slices.IndexFunc(objects, func(o T) bool {
			return o.GetName() == want.GetName() && o.GetNamespace() == want.GetNamespace()
		})
	}
	for _, want := range mine {
		if i := find(desired, want); i >= 0 {
			want = desired[i]
		}
		state := ObjectState{Desired: want, State: StateMissing}
		if i := find(existing, want); i >= 0 {
			found := existing[i]
			state.Found = found
			switch {
			case !IsManaged(found):
				state.State = StateUnmanaged
			case marked(found):
				state.State = StateMarked
			case !same(want, found):
				state.State = StateEdited
			case isUnacknowledged(found):
				state.State = StateUnacknowledged
			case !inForce(found, s.now, s.delay):
				state.State = StateYoung
			default:
				state.State = StateInForce
			}
		}
		s.all = append(s.all, state)
	}
}

func isUnacknowledged(o Object) bool {
	e, ok := o.(*networkingv1.ServiceEntry)
	return ok && IsAcknowledgement(e) && !IsAcknowledged(e)
}
