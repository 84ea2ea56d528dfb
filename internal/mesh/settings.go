package mesh

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	networkingapi "istio.io/api/networking/v1alpha3"
	securityapi "istio.io/api/security/v1beta1"
	typeapi "istio.io/api/type/v1beta1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// strictPeer returns the PeerAuthentication of a namespace with Redis servers. It selects them by a managed label, and
// their sidecars then accept only mutual TLS.
func strictPeer(namespace string) *securityv1.PeerAuthentication {
	return &securityv1.PeerAuthentication{
		TypeMeta:   metav1.TypeMeta{APIVersion: securityv1.SchemeGroupVersion.String(), Kind: "PeerAuthentication"},
		ObjectMeta: ownMeta(namespace, origination.ServerName),
		Spec: securityapi.PeerAuthentication{
			Selector: &typeapi.WorkloadSelector{
				MatchLabels: map[string]string{origination.LabelServer: string(origination.ServerStrict)},
			},
			Mtls: &securityapi.PeerAuthentication_MutualTLS{Mode: securityapi.PeerAuthentication_MutualTLS_STRICT},
		},
	}
}

// egress returns the Sidecars of the restricted pods, sorted by name: one for each set of originations.
func egress(snap *Snapshot) []*networkingv1.Sidecar {
	byName := make(map[string]*networkingv1.Sidecar, len(snap.Sidecars))
	for _, r := range snap.Live {
		if r.Settings.Sidecar != "" {
			s := egressSidecar(snap, r.Originations)
			byName[s.Name] = s
		}
	}
	sidecars := slices.AppendSeq(make([]*networkingv1.Sidecar, 0, len(byName)), maps.Values(byName))
	sortByName(sidecars)
	return sidecars
}

func egressSidecar(snap *Snapshot, originations []origination.Origination) *networkingv1.Sidecar {
	label := origination.EgressLabel(originations)
	hosts := append(make([]string, 0, 1+len(originations)), snap.RootNamespace+"/*")
	for i := range originations {
		hosts = appendEgressLines(hosts, &originations[i], snap.Namespace)
	}
	slices.Sort(hosts[1:])
	return &networkingv1.Sidecar{
		TypeMeta:   metav1.TypeMeta{APIVersion: istioVersion, Kind: "Sidecar"},
		ObjectMeta: ownMeta(snap.Namespace, origination.EgressNameOf(label)),
		Spec: networkingapi.Sidecar{
			WorkloadSelector: &networkingapi.WorkloadSelector{Labels: map[string]string{label: "true"}},
			Egress:           []*networkingapi.IstioEgressListener{{Hosts: slices.Compact(hosts)}},
			// Unlisted traffic must not pass: a Service in the mesh would lose its mutual TLS.
			OutboundTrafficPolicy: &networkingapi.OutboundTrafficPolicy{Mode: networkingapi.OutboundTrafficPolicy_REGISTRY_ONLY},
		},
	}
}

// appendEgressLines appends what the egress of a restricted pod lists for one origination.
func appendEgressLines(lines []string, o *origination.Origination, namespace string) []string {
	if o.InMesh() || o.HTTP() {
		return append(lines, egressLine(o, namespace))
	}
	if o.Pinned() {
		lines = append(lines, "./"+o.PrivateHosts())
	}
	for _, a := range o.Atoms() {
		lines = append(lines, "./"+a.Host())
	}
	return lines
}

// CheckSettings holds what a pod that is about to be admitted asks for as a whole against users' objects. The
// labels are those that it will have.
//
// A PeerAuthentication with a selector takes precedence over the namespace's and the mesh's. If several select a pod,
// Istio applies the oldest (ComposePeerAuthentication), which may be any of them. The same is true for Sidecars with a
// selector. A managed Sidecar takes precedence over one without (see sidecarOf).
func CheckSettings(
	settings origination.Settings,
	podLabels map[string]string,
	snap *Snapshot,
) (problems []origination.Problem, warnings []string) {
	refuse := func(key string, value, detail string) {
		problems = append(problems, origination.Problem{
			Reason: origination.ReasonUnmanagedObject,
			Err:    field.Invalid(settingPath(key), value, detail),
		})
	}
	if snap.IgnoredBy != "" && settings != (origination.Settings{}) {
		problems = append(problems, namespaceIgnored(snap))
	}
	if settings.Server != "" {
		for _, p := range snap.Peers {
			selector := p.Spec.GetSelector().GetMatchLabels()
			switch {
			case p.Namespace != snap.Namespace || IsManaged(p):
			case p.Name == origination.ServerName:
				refuse("server", string(settings.Server), fmt.Sprintf("cannot be used with PeerAuthentication %s/%s, "+
					"which has a name of redis-tls but not the label %s: %s; delete or rename it",
					p.Namespace, p.Name, origination.ManagedByLabel, origination.ManagedBy))
			case len(selector) > 0 && matches(selector, podLabels):
				refuse("server", string(settings.Server), fmt.Sprintf("cannot be used with PeerAuthentication %s/%s, "+
					"which selects this pod too, and Istio applies only the oldest. Delete it, or remove this annotation",
					p.Namespace, p.Name))
			}
		}
	}
	if settings.Sidecar != "" {
		for _, s := range snap.Sidecars {
			if s.Namespace == snap.Namespace && !IsManaged(s) && s.Spec.WorkloadSelector != nil &&
				matches(s.Spec.WorkloadSelector.GetLabels(), podLabels) {
				refuse("sidecar", string(settings.Sidecar), fmt.Sprintf("cannot be used with Sidecar %s/%s, "+
					"which selects this pod too, and Istio applies only one. "+
					"Delete it, or remove this annotation and list the hosts there",
					s.Namespace, s.Name))
			}
		}
		if s := sidecarOf(nil, snap); s != nil && s.Spec.WorkloadSelector == nil {
			warnings = append(warnings, fmt.Sprintf("%s: the namespace-wide Sidecar %s/%s does not apply to this pod. "+
				"The pod's own Sidecar lists only %s/* and its Redis hosts",
				settingPath("sidecar"), s.Namespace, s.Name, snap.RootNamespace))
		}
	}
	return problems, warnings
}

func settingPath(key string) *field.Path {
	return field.NewPath("metadata", "annotations").Key(origination.Prefix + key)
}

// MissingSettings returns the names of the objects that the pod's settings need and that are not in force yet; see
// [Missing].
func MissingSettings(
	settings origination.Settings,
	originations []origination.Origination,
	snap *Snapshot,
	now time.Time,
	delay time.Duration,
) []string {
	present := func(o metav1.Object, name string) bool {
		return o.GetNamespace() == snap.Namespace && o.GetName() == name && IsManaged(o) && inForce(o, now, delay)
	}
	var missing []string
	if settings.Server != "" && !slices.ContainsFunc(snap.Peers, func(p *securityv1.PeerAuthentication) bool {
		return present(p, origination.ServerName) && proto.Equal(&p.Spec, &strictPeer(snap.Namespace).Spec)
	}) {
		missing = append(missing, "PeerAuthentication "+origination.ServerName)
	}
	if settings.Sidecar != "" {
		want := egressSidecar(snap, originations)
		if !slices.ContainsFunc(snap.Sidecars, func(s *networkingv1.Sidecar) bool {
			return present(s, want.Name) && proto.Equal(&s.Spec, &want.Spec)
		}) {
			missing = append(missing, "Sidecar "+want.Name)
		}
	}
	return missing
}

// restricted reports whether a managed Sidecar selects the pod by its label.
func restricted(podLabels map[string]string) bool {
	for key := range podLabels {
		if strings.HasPrefix(key, origination.LabelEgressPrefix) {
			return true
		}
	}
	return false
}
