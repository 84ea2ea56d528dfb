package mesh_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingapi "istio.io/api/networking/v1alpha3"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// TestStates proves that each way in which an object can be wrong is told apart, on the objects that the controller
// applied for the same request.
func TestStates(t *testing.T) {
	request := claim("cart", "1", 0, redis("a.example.com", passthrough(6380), pinned("240.241.0.9")))
	o := request.Originations[0]
	for _, test := range []struct {
		name string
		edit func(*mesh.Desired)
		now  time.Time
		want map[string]mesh.State // of the objects that are not in force
	}{
		{name: "everything exists", now: late},
		{
			name: "the entry does not exist",
			edit: func(d *mesh.Desired) { d.Entries = nil },
			now:  late,
			want: map[string]mesh.State{o.EntryName(): mesh.StateMissing},
		},
		{
			name: "the entry is edited",
			edit: func(d *mesh.Desired) { d.Entries[0].Spec.Ports = nil },
			now:  late,
			want: map[string]mesh.State{o.EntryName(): mesh.StateEdited},
		},
		{
			name: "the entry has another resolution",
			edit: func(d *mesh.Desired) { d.Entries[0].Spec.Resolution = networkingapi.ServiceEntry_NONE },
			now:  late,
			want: map[string]mesh.State{o.EntryName(): mesh.StateEdited},
		},
		{
			name: "the closed rule of the key lost its label",
			edit: func(d *mesh.Desired) {
				for _, r := range d.Rules {
					if r.Name == o.ClosedRuleName() {
						r.Labels = nil
					}
				}
			},
			now:  late,
			want: map[string]mesh.State{o.ClosedRuleName(): mesh.StateUnmanaged},
		},
		{
			name: "the selected rule is marked",
			edit: func(d *mesh.Desired) {
				for _, r := range d.Rules {
					if r.Name == o.RuleName() {
						r.Annotations = map[string]string{mesh.AnnotationDeleting: "2026-01-01T00:00:00Z"}
					}
				}
			},
			now:  late,
			want: map[string]mesh.State{o.RuleName(): mesh.StateMarked},
		},
		{
			name: "everything is younger than the delay",
			now:  day.Add(time.Hour),
			want: map[string]mesh.State{
				o.EntryName():          mesh.StateYoung,
				o.RuleName():           mesh.StateYoung,
				o.ClosedRuleName():     mesh.StateYoung,
				origination.ClosedName: mesh.StateYoung,
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := applied(1, request)
			if test.edit != nil {
				test.edit(&d)
			}
			snap := snapshot()
			snap.Entries, snap.Rules = d.Entries, d.Rules
			states, refused := mesh.States(request, snap, testConfig(), test.now)
			if len(refused) > 0 {
				t.Errorf("refused %v", refused)
			}
			got := map[string]mesh.State{}
			var names []string
			for _, s := range states {
				names = append(names, s.Desired.GetObjectKind().GroupVersionKind().Kind+" "+s.Desired.GetName())
				if s.State != mesh.StateInForce {
					// The entry and the selected rule have one name.
					if strings.HasPrefix(names[len(names)-1], "DestinationRule") || len(got) == 0 {
						got[s.Desired.GetName()] = s.State
					}
				}
			}
			want := test.want
			if want == nil {
				want = map[string]mesh.State{}
			}
			if diff := cmp.Diff(want, got); diff != "" || len(names) != 4 {
				t.Errorf("%s\nobjects %q", diff, names)
			}
		})
	}
}

// TestStatesOfSharedObjects proves that the objects of an http host are compared with what all live pods need.
func TestStatesOfSharedObjects(t *testing.T) {
	one := claim("cart", "1", 0, redis("a.example.com", http, pinned("240.241.0.9")))
	two := claim("pay", "1", 0, redis("a.example.com", http, pinned("240.241.0.9"), port(8080, 443)))
	d := applied(1, one, two)
	snap := snapshot()
	snap.Entries, snap.Rules, snap.Routes = d.Entries, d.Rules, d.Routes
	snap.Live = []mesh.Request{one, two}
	states, _ := mesh.States(one, snap, testConfig(), late)
	for _, s := range states {
		if s.State != mesh.StateInForce {
			t.Errorf("%s is %s", s.Desired.GetName(), s.State)
		}
	}
	if len(states) != 3 {
		t.Errorf("%d objects", len(states))
	}
}

func TestStatesWithAnotherVIPAreRefused(t *testing.T) {
	request := claim("cart", "1", 0, redis("a.example.com", pinned("240.241.0.9")))
	d := applied(1, request)
	d.Entries[0].Spec.Addresses = []string{"240.241.0.8"}
	snap := snapshot()
	snap.Entries, snap.Rules = d.Entries, d.Rules
	_, refused := mesh.States(request, snap, testConfig(), late)
	if len(refused) != 1 || refused[0].Problem.Reason != origination.ReasonConflict {
		t.Errorf("refused %v", refused)
	}
}
