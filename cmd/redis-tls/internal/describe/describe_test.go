package describe_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/term"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/test/catalog"
)

func optedIn(b *bed, annotations map[string]string) {
	b.namespace.Labels["redis-tls/injection"] = "enabled"
	b.namespace.Annotations = annotations
}

func event(name, kind, object string, reason, note string) *eventsv1.Event {
	return &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: "shop", Name: name},
		EventTime:           metav1.NewMicroTime(noon.Add(-5 * time.Minute)),
		ReportingController: "redis-tls",
		Type:                corev1.EventTypeNormal,
		Reason:              reason,
		Regarding:           corev1.ObjectReference{Kind: kind, Namespace: "shop", Name: object},
		Note:                note,
	}
}

func aboutUID(e *eventsv1.Event) *eventsv1.Event {
	e.Regarding.UID = "cart-1"
	return e
}

// TestFieldsAreStable keeps the fields that programs read, of a report that has all of them.
func TestFieldsAreStable(t *testing.T) {
	b := newBed(t)
	b.annotations["redis-tls/target-port"] = "6390"
	b.later = maps.Clone(b.annotations)
	b.later["redis-tls/nodes"] = "node.example.com"
	b.edit = func(_ *corev1.Pod, desired *mesh.Desired) { desired.Entries = nil }
	b.extra = []client.Object{aboutUID(event("1", "ReplicaSet", "cart-1", "Applied", "created ServiceEntry redis-tls-x"))}
	b.deny = func(_, kind, _ string) error {
		if kind == "PeerAuthentication" {
			return forbidden()
		}
		return nil
	}
	text, err := yaml.Marshal(b.describe(""))
	if err != nil {
		t.Fatal(err)
	}
	catalog.Open(t).Add("as YAML", strings.Split(strings.TrimSpace(string(text)), "\n")...)
}

func TestDescribe(t *testing.T) {
	messages := catalog.Open(t)
	for _, test := range []struct {
		name string
		edit func(*bed)
		pod  string // the pod to describe; empty for the Deployment
		// findings is whether the exit status says so.
		findings bool
	}{
		{name: "a healthy Deployment"},
		{
			name: "a healthy pod",
			pod:  "cart-1-x",
		},
		{
			name: "keys of the namespace and of the Helm values",
			edit: func(b *bed) {
				b.annotations = map[string]string{"redis-tls/host": "redis.example.com"}
				optedIn(b, map[string]string{"redis-tls/ca-configmap": "redis-ca"})
				b.config += "\ndefaults: {redis-tls/port: 6390}"
			},
		},
		{
			name: "several servers with nodes and ports",
			edit: func(b *bed) {
				b.annotations = map[string]string{
					"redis-tls/host": "redis.example.com", "redis-tls/nodes": "node-{0..1}.example.com",
					"redis-tls/ca-configmap": "redis-ca", "redis-tls/port": "6379,7000-7003",
					"azure.redis-tls/host": "azure.example.com", "azure.redis-tls/target-port": "6380",
				}
			},
		},
		{
			name: "an address waits at the gate",
			edit: func(b *bed) {
				b.annotations = map[string]string{"redis-tls/addresses": "10.0.0.3", "redis-tls/ca-configmap": "redis-ca"}
				b.edit = func(_ *corev1.Pod, desired *mesh.Desired) { *desired = mesh.Desired{} }
			},
			findings: true,
		},
		{
			name: "a wrong value is refused",
			edit: func(b *bed) { b.admit, b.annotations["redis-tls/port"] = false, "redis" },

			findings: true,
		},
		{
			name: "a request that policy.mode warn tolerates",
			edit: func(b *bed) {
				b.admit, b.annotations["redis-tls/port"] = false, "redis"
				b.config += "\npolicy: {mode: warn}"
			},
			findings: true,
		},
		{
			name: "a request that an entry of the policy does not allow",
			edit: func(b *bed) {
				b.admit, b.namespace.Labels["team"] = false, "shop"
				b.config += "\npolicy: {namespaces: [{selector: {matchLabels: {team: pay}}, mode: warn}, " +
					"{selector: {matchLabels: {team: shop}}, allowedHosts: ['*.example.org']}]}"
			},
			findings: true,
		},
		{
			name: "a pod that requests nothing",
			edit: func(b *bed) { b.admit, b.annotations = false, nil },
		},
		{
			name: "a pod that opted out",
			edit: func(b *bed) { b.admit, b.annotations["redis-tls/inject"] = false, "false" },
		},
		{
			name:     "deleted objects",
			edit:     func(b *bed) { b.edit = func(_ *corev1.Pod, desired *mesh.Desired) { *desired = mesh.Desired{} } },
			findings: true,
		},
		{
			name: "an edited ServiceEntry",
			edit: func(b *bed) {
				b.edit = func(_ *corev1.Pod, desired *mesh.Desired) { desired.Entries[0].Spec.Ports[0].Number = 1 }
			},
			findings: true,
		},
		{
			name: "a ServiceEntry with another VIP",
			edit: func(b *bed) {
				b.edit = func(_ *corev1.Pod, desired *mesh.Desired) {
					desired.Entries[0].Spec.Addresses = []string{"240.241.0.9"}
				}
			},
			findings: true,
		},
		{
			name: "marked and unmanaged rules",
			edit: func(b *bed) {
				b.edit = func(_ *corev1.Pod, desired *mesh.Desired) {
					desired.Rules[0].Annotations = map[string]string{mesh.AnnotationDeleting: "2026-03-04T11:00:00Z"}
					desired.Rules[1].Labels = nil
				}
			},
			findings: true,
		},
		{
			name: "a namespace that istiod does not read",
			edit: func(b *bed) {
				b.annotations = map[string]string{"redis-tls/addresses": "10.0.0.3", "redis-tls/ca-configmap": "redis-ca"}
				b.edit = func(_ *corev1.Pod, desired *mesh.Desired) {
					for _, e := range desired.Entries {
						e.Status.Reset()
					}
				}
			},
			findings: true,
		},
		{
			name: "objects younger than the delay",
			edit: func(b *bed) { b.age = time.Second },
		},
		{
			name: "a pod that is older than the annotations",
			edit: func(b *bed) {
				b.later = maps.Clone(b.annotations)
				b.later["redis-tls/port"], b.later["redis-tls/sni"] = "6380", "a.example.com"
			},
		},
		{
			name: "a pod without TLS",
			edit: func(b *bed) {
				b.edit = func(pod *corev1.Pod, desired *mesh.Desired) {
					pod.Labels, pod.Annotations, *desired = nil, nil, mesh.Desired{}
				}
			},
		},
		{
			name: "a pod without a sidecar",
			edit: func(b *bed) {
				b.edit = func(pod *corev1.Pod, _ *mesh.Desired) { pod.Spec.Containers = pod.Spec.Containers[:1] }
			},
		},
		{
			name: "a pod whose status was edited",
			edit: func(b *bed) {
				b.edit = func(pod *corev1.Pod, _ *mesh.Desired) { pod.Annotations["redis-tls/status"] = "{}" }
			},
		},
		{
			name: "a pod without an owner",
			edit: func(b *bed) {
				b.edit = func(pod *corev1.Pod, _ *mesh.Desired) { pod.OwnerReferences = nil }
			},
			pod: "cart-1-x",
		},
		{
			name: "a ConfigMap without the key",
			edit: func(b *bed) { b.annotations["redis-tls/ca-key"] = "other.crt" },

			findings: true,
		},
		{
			name: "a Secret that does not exist",
			edit: func(b *bed) {
				b.secrets = true
				b.annotations = map[string]string{"redis-tls/host": "redis.example.com", "redis-tls/ca-secret": "absent"}
			},
			findings: true,
		},
		{
			name: "a Secret that is not read",
			edit: func(b *bed) {
				b.annotations = map[string]string{"redis-tls/host": "redis.example.com", "redis-tls/ca-secret": "absent"}
			},
		},
		{
			name:     "no webhook",
			edit:     func(b *bed) { b.install, b.admit = false, false },
			findings: true,
		},
		{
			name: "no Istio and no sidecar",
			edit: func(b *bed) {
				b.admit, b.namespace.Labels = false, nil
				b.deny = func(group, kind, _ string) error {
					if strings.HasSuffix(group, "istio.io") || group == "cert-manager.io" {
						return &meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: group, Kind: kind}}
					}
					return nil
				}
			},
			findings: true,
		},
		{
			name: "a user with rights in the namespace only",
			edit: func(b *bed) {
				b.deny = func(group, kind, namespace string) error {
					if namespace != "shop" || group == "networking.istio.io" && kind == "DestinationRule" {
						return forbidden()
					}
					return nil
				}
			},
		},
		{
			name: "a user who may not read the Helm values",
			edit: func(b *bed) {
				b.config = "vip: {cidr: 240.241.0.0/16, ipv6CIDR: 'fd00:240:241::/112'}"
				b.deny = func(_, kind, namespace string) error {
					if kind == "ConfigMap" && namespace != "shop" {
						return forbidden()
					}
					return nil
				}
			},
		},
		{
			name: "Events of the pod, its owner and its objects",
			edit: func(b *bed) {
				refusal := aboutUID(event("3", "ReplicaSet", "cart-1", "FailedCreate", "Error creating: admission webhook "+
					`"1.pods.redis-tls.internal" denied the request: pod cart-1-* in namespace shop cannot get Redis TLS`))
				refusal.ReportingController, refusal.Type = "replicaset-controller", corev1.EventTypeWarning
				scaled := aboutUID(event("4", "ReplicaSet", "cart-1", "SuccessfulCreate", "Created pod: cart-1-x"))
				scaled.ReportingController = "replicaset-controller"
				b.extra = []client.Object{
					aboutUID(event("1", "ReplicaSet", "cart-1", "Applied", "created ServiceEntry redis-tls-x")),
					event("2", "DestinationRule", "redis-tls-closed", "Deleted", "deleted DestinationRule redis-tls-closed"),
					refusal,
					scaled,
					event("5", "ReplicaSet", "other", "Applied", "created ServiceEntry redis-tls-y"),
				}
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBed(t)
			if test.edit != nil {
				test.edit(b)
			}
			report := b.describe(test.pod)
			if report.HasFindings() != test.findings {
				t.Errorf("findings: %v", report.HasFindings())
			}
			messages.Add(test.name, strings.Split(strings.TrimSpace(report.Table(term.Painter{}, noon)), "\n")...)
		})
	}
}
