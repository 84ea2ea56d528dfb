package mesh_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingapi "istio.io/api/networking/v1alpha3"
	securityapi "istio.io/api/security/v1beta1"
	typeapi "istio.io/api/type/v1beta1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

var (
	strict        = origination.Settings{Server: origination.ServerStrict}
	restrict      = origination.Settings{Sidecar: origination.SidecarRestrict}
	managedLabels = map[string]string{"app.kubernetes.io/managed-by": "redis-tls"}
)

// peer returns a PeerAuthentication, "namespace/name", for pods with the labels.
func peer(name string, selector map[string]string, labels map[string]string) *securityv1.PeerAuthentication {
	namespace, name, _ := strings.Cut(name, "/")
	p := &securityv1.PeerAuthentication{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}}
	p.Spec.Mtls = &securityapi.PeerAuthentication_MutualTLS{Mode: securityapi.PeerAuthentication_MutualTLS_PERMISSIVE}
	if selector != nil {
		p.Spec.Selector = &typeapi.WorkloadSelector{MatchLabels: selector}
	}
	return p
}

// served returns the objects of a namespace with two servers.
func served() mesh.Desired {
	one, two := claim("redis", "1", 1), claim("cache", "1", 2)
	one.Settings, two.Settings = strict, strict
	return objects(snapshot(), one, two)
}

func TestServersOfANamespaceHaveOnePeerAuthentication(t *testing.T) {
	d := served()
	text, err := yaml.Marshal(d.Peers[0])
	if err != nil {
		t.Fatal(err)
	}
	want := `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  labels:
    app.kubernetes.io/managed-by: redis-tls
  name: redis-tls-server
  namespace: shop
spec:
  mtls:
    mode: STRICT
  selector:
    matchLabels:
      redis-tls/server: strict
status: {}
`
	if diff := cmp.Diff(want, string(text)); diff != "" || len(d.Peers) != 1 {
		t.Errorf("%d objects (-want +got):\n%s", len(d.Peers), diff)
	}
}

func TestCheckForAServer(t *testing.T) {
	messages := catalog.Open(t)
	app := map[string]string{"app": "redis", "redis-tls/server": "strict"}
	refused := []string{"UnmanagedObject: metadata.annotations[redis-tls/server]"}
	for name, c := range map[string]struct {
		peer     *securityv1.PeerAuthentication
		settings origination.Settings
		want     []string
	}{
		"one for the pod's label": {
			peer:     peer("shop/theirs", map[string]string{"app": "redis"}, nil),
			settings: strict,
			want:     refused,
		},
		"one for the managed label": {
			peer:     peer("shop/theirs", map[string]string{"redis-tls/server": "strict"}, nil),
			settings: strict,
			want:     refused,
		},
		"one for another label": {
			peer:     peer("shop/theirs", map[string]string{"app": "cart"}, nil),
			settings: strict,
		},
		"one for a further label": {
			peer:     peer("shop/theirs", map[string]string{"app": "redis", "tier": "a"}, nil),
			settings: strict,
		},
		"one of the whole namespace": {
			peer:     peer("shop/theirs", nil, nil),
			settings: strict,
		},
		"one of the whole namespace, with an empty selector": {
			peer:     peer("shop/theirs", map[string]string{}, nil),
			settings: strict,
		},
		"one of another namespace": {
			peer:     peer("other/theirs", map[string]string{"app": "redis"}, nil),
			settings: strict,
		},
		"managed objects": {
			peer:     peer("shop/redis-tls-server", map[string]string{"redis-tls/server": "strict"}, managedLabels),
			settings: strict,
		},
		"an unmanaged one with the managed name": {
			peer:     peer("shop/redis-tls-server", nil, nil),
			settings: strict,
			want:     refused,
		},
		"one for a pod that is not a server": {
			peer:     peer("shop/theirs", map[string]string{"app": "redis"}, nil),
			settings: restrict,
		},
	} {
		t.Run(name, func(t *testing.T) {
			problems, warnings := mesh.CheckSettings(c.settings, app, snapshot(c.peer))
			messages.Add(name, texts(problems)...)
			wantProblems(t, problems, c.want...)
			wantWarnings(t, warnings)
		})
	}
}

func TestCheckForARestrictedPod(t *testing.T) {
	messages := catalog.Open(t)
	narrow := listener{hosts: []string{"istio-system/*"}}
	o := redis("redis.example.com")
	labels := map[string]string{"app": "cart", origination.EgressLabel([]origination.Origination{o}): "true"}
	overridden := []string{"metadata.annotations[redis-tls/sidecar]"}
	for name, c := range map[string]struct {
		sidecar  *networkingv1.Sidecar
		want     []string
		warnings []string
	}{
		"one that selects the pod": {
			sidecar: sidecar("shop", "theirs", 1, map[string]string{"app": "cart"}, listener{hosts: []string{"*/*"}}),
			want:    []string{`UnmanagedObject: metadata.annotations[redis-tls/sidecar]`},
		},
		"one that selects others": {
			sidecar: sidecar("shop", "theirs", 1, map[string]string{"app": "pay"}, narrow),
		},
		"one for the namespace": {
			sidecar:  sidecar("shop", "default", 1, nil, narrow),
			warnings: overridden,
		},
		"one for all namespaces": {
			sidecar:  sidecar("istio-system", "default", 1, nil, narrow),
			warnings: overridden,
		},
		"one of another namespace": {sidecar: sidecar("other", "default", 1, nil, narrow)},
		"one with a selector in the root namespace": {
			sidecar: sidecar("istio-system", "gateway", 1, map[string]string{"app": "cart"}, narrow),
		},
		"managed objects": {
			sidecar: func() *networkingv1.Sidecar {
				s := sidecar("shop", "own", 1, labels, narrow)
				s.Labels = managedLabels
				return s
			}(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			snap := snapshot(c.sidecar)
			problems, warnings := mesh.CheckSettings(restrict, labels, snap)
			more, _ := check(o, labels, snap)
			problems = append(problems, more...)
			messages.Add(name, append(texts(problems), warnings...)...)
			wantProblems(t, problems, c.want...)
			wantWarnings(t, warnings, c.warnings...)
			if problems, _ := mesh.CheckSettings(strict, labels, snap); len(problems) > 0 {
				t.Errorf("a pod that is not restricted: %v", texts(problems))
			}
		})
	}
}

// A managed Sidecar applies only to its own pods. The unmanaged one must import the hosts of all others.
func TestAManagedSidecarAppliesOnlyToItsPods(t *testing.T) {
	o := redis("redis.example.com")
	own := restrictedTo(o)
	if problems, _ := check(
		redis("other.example.com"),
		map[string]string{"app": "pay"},
		snapshot(own),
	); len(problems) > 0 {
		t.Errorf("problems %v", texts(problems))
	}
	unmanaged := sidecar("shop", "default", 1, nil, listener{hosts: []string{"istio-system/*"}})
	problems, _ := check(o, map[string]string{"app": "pay"}, snapshot(own, unmanaged))
	if len(problems) != 1 {
		t.Errorf("problems %v, want that of the namespace's Sidecar", texts(problems))
	}
}

// restrictedTo returns the Sidecar for pods of the originations, as the API server has it since hour one.
func restrictedTo(originations ...origination.Origination) *networkingv1.Sidecar {
	request := claim("cart", "1", 1, originations...)
	request.Settings = restrict
	s := objects(snapshot(), request).Sidecars[0]
	s.CreationTimestamp = metav1.NewTime(day.Add(time.Hour))
	return s
}

func TestMissingSettings(t *testing.T) {
	originations := []origination.Origination{redis("redis.example.com", at("10.0.0.3/32")), inMesh(service)}
	d := served()
	d.Peers[0].CreationTimestamp = metav1.NewTime(day.Add(time.Hour))
	both := origination.Settings{Server: origination.ServerStrict, Sidecar: origination.SidecarRestrict}
	sidecarName := "Sidecar " + origination.EgressName(originations)
	for name, c := range map[string]struct {
		settings origination.Settings
		edit     func(*securityv1.PeerAuthentication, *networkingv1.Sidecar)
		now      time.Time
		want     []string
	}{
		"nothing is requested, nothing exists": {
			edit: func(p *securityv1.PeerAuthentication, s *networkingv1.Sidecar) { p.Name, s.Name = "a", "b" },
		},
		"both exist": {settings: both},
		"both have just been accepted": {
			settings: both,
			now:      day.Add(time.Hour + time.Second),
			want:     []string{"PeerAuthentication redis-tls-server", sidecarName},
		},
		"none exists": {
			settings: both,
			edit:     func(p *securityv1.PeerAuthentication, s *networkingv1.Sidecar) { p.Name, s.Name = "a", "b" },
			want:     []string{"PeerAuthentication redis-tls-server", sidecarName},
		},
		"they are not managed": {
			settings: both,
			edit:     func(p *securityv1.PeerAuthentication, s *networkingv1.Sidecar) { p.Labels, s.Labels = nil, nil },
			want:     []string{"PeerAuthentication redis-tls-server", sidecarName},
		},
		"they are another namespace's": {
			settings: both,
			edit: func(p *securityv1.PeerAuthentication, s *networkingv1.Sidecar) {
				p.Namespace, s.Namespace = "other", "other"
			},
			want: []string{"PeerAuthentication redis-tls-server", sidecarName},
		},
		"they are marked": {
			settings: both,
			edit: func(p *securityv1.PeerAuthentication, s *networkingv1.Sidecar) {
				p.Annotations, s.Annotations = map[string]string{
					mesh.AnnotationDeleting: "",
				}, map[string]string{mesh.AnnotationDeleting: ""}
			},
			want: []string{"PeerAuthentication redis-tls-server", sidecarName},
		},
		"the server accepts plaintext": {
			settings: strict,
			edit: func(p *securityv1.PeerAuthentication, _ *networkingv1.Sidecar) {
				p.Spec.Mtls.Mode = securityapi.PeerAuthentication_MutualTLS_PERMISSIVE
			},
			want: []string{"PeerAuthentication redis-tls-server"},
		},
		"a port of the server accepts plaintext": {
			settings: strict,
			edit: func(p *securityv1.PeerAuthentication, _ *networkingv1.Sidecar) {
				p.Spec.PortLevelMtls = map[uint32]*securityapi.PeerAuthentication_MutualTLS{
					6379: {Mode: securityapi.PeerAuthentication_MutualTLS_DISABLE},
				}
			},
			want: []string{"PeerAuthentication redis-tls-server"},
		},
		"unlisted traffic passes": {
			settings: restrict,
			edit: func(_ *securityv1.PeerAuthentication, s *networkingv1.Sidecar) {
				s.Spec.OutboundTrafficPolicy.Mode = networkingapi.OutboundTrafficPolicy_ALLOW_ANY
			},
			want: []string{sidecarName},
		},
		"a host is missing": {
			settings: restrict,
			edit: func(_ *securityv1.PeerAuthentication, s *networkingv1.Sidecar) {
				s.Spec.Egress[0].Hosts = s.Spec.Egress[0].Hosts[:2]
			},
			want: []string{sidecarName},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, s := d.Peers[0].DeepCopy(), restrictedTo(originations...)
			if c.edit != nil {
				c.edit(p, s)
			}
			if c.now.IsZero() {
				c.now = late
			}
			if diff := cmp.Diff(
				c.want,
				mesh.MissingSettings(c.settings, originations, snapshot(p, s), c.now, firstUseDelay),
			); diff != "" {
				t.Errorf("missing (-want +got):\n%s\n%s", diff, fmt.Sprint(s.Spec.Egress))
			}
		})
	}
}
