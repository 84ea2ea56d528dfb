package mesh_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// acknowledgements returns the names of the acknowledgements that live pods with the request need.
func acknowledgements(t *testing.T, r mesh.Request, cfg config.FirstUse) (found []*networkingv1.ServiceEntry) {
	t.Helper()
	all := testConfig()
	all.FirstUse = cfg
	snap := snapshot()
	snap.Live = []mesh.Request{r}
	desired := mesh.Objects(snap, all)
	for i, e := range desired.Entries {
		if mesh.IsAcknowledgement(e) {
			if found = append(found, e); i != len(desired.Entries)-1 {
				t.Errorf("it is entry %d of %d, and istiod must read the others before it", i+1, len(desired.Entries))
			}
		}
	}
	return found
}

func TestAcknowledgementIsForPodsThatWait(t *testing.T) {
	byName := redis("a.example.com", pinned("240.241.0.9"))
	byAddress := redis("a.example.com", at("10.0.0.3/32"), pinned("240.241.0.9"))
	on := config.FirstUse{Gate: true, Acknowledgement: true}
	server, restricted := claim("a", "r1", 1), claim("a", "r1", 1, byName)
	server.Settings.Server, restricted.Settings.Sidecar = origination.ServerStrict, origination.SidecarRestrict
	for _, tc := range []struct {
		name    string
		request mesh.Request
		cfg     config.FirstUse
		want    bool
	}{
		{name: "a pod that dials an address waits", request: claim("a", "r1", 1, byAddress), cfg: on, want: true},
		{
			name:    "a pod with protocol http waits",
			request: claim("a", "r1", 1, redis("a.example.com", http)),
			cfg:     on,
			want:    true,
		},
		{name: "a Redis server in the mesh waits", request: server, cfg: on, want: true},
		{name: "a restricted pod waits", request: restricted, cfg: on, want: true},
		{name: "a pod that dials only a VIP does not wait", request: claim("a", "r1", 1, byName), cfg: on},
		{
			name:    "no pod waits if firstUse.acknowledgement is off",
			request: claim("a", "r1", 1, byAddress),
			cfg:     config.FirstUse{Gate: true},
		},
		{
			name:    "no pod waits if there is no gate",
			request: claim("a", "r1", 1, byAddress),
			cfg:     config.FirstUse{Acknowledgement: true},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := len(acknowledgements(t, tc.request, tc.cfg)) == 1; got != tc.want {
				t.Errorf("acknowledgement: %t, want %t", got, tc.want)
			}
			if got := mesh.Unacknowledged(tc.request.Settings, tc.request.Originations, snapshot(), tc.cfg); got != tc.want {
				t.Errorf("a pod waits: %t, want %t", got, tc.want)
			}
		})
	}
}

// Another namespace, an address or another resolution would change what istiod does with the entry.
func TestAcknowledgementIsExportedNowhereAndGetsAnAddress(t *testing.T) {
	r := claim("a", "r1", 1, redis("a.example.com", at("10.0.0.3/32"), pinned("240.241.0.9")))
	cfg := config.FirstUse{Gate: true, Acknowledgement: true}
	for _, e := range acknowledgements(t, r, cfg) {
		want := &networkingapi.ServiceEntry{
			Hosts:      []string{"acknowledgement.redis-tls.internal"},
			ExportTo:   []string{"~"},
			Location:   networkingapi.ServiceEntry_MESH_EXTERNAL,
			Resolution: networkingapi.ServiceEntry_DNS,
			Ports:      []*networkingapi.ServicePort{{Number: 80, Name: "http-80", Protocol: "HTTP"}},
		}
		if diff := cmp.Diff(want, &e.Spec, protocmp.Transform()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if mesh.Visible(e, e.Namespace) {
			t.Error("sidecars of its namespace get the entry")
		}
		allocated := e.DeepCopy()
		allocated.Status.Addresses = []*networkingapi.ServiceEntryAddress{{Value: "240.240.0.1"}}
		unmanaged, marked := allocated.DeepCopy(), allocated.DeepCopy()
		unmanaged.Labels, marked.Annotations = nil, map[string]string{mesh.AnnotationDeleting: "now"}
		for _, tc := range []struct {
			name  string
			entry *networkingv1.ServiceEntry
			waits bool
		}{
			{name: "with an address", entry: allocated},
			{name: "without an address", entry: e, waits: true},
			{name: "unmanaged", entry: unmanaged, waits: true},
			{name: "marked for deletion", entry: marked, waits: true},
		} {
			if got := mesh.Unacknowledged(r.Settings, r.Originations, snapshot(tc.entry), cfg); got != tc.waits {
				t.Errorf("%s: a pod waits: %t, want %t", tc.name, got, tc.waits)
			}
		}
	}
}
