package mesh

import (
	"slices"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networkingapi "istio.io/api/networking/v1alpha3"
	typeapi "istio.io/api/type/v1beta1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// closedServer is a name that no certificate has.
const closedServer = "closed" + origination.HostSuffix

// pinnedRule returns the rule for the pods of a key: TLS on every port except passthrough ports.
func pinnedRule(o *origination.Origination, namespace string) *networkingv1.DestinationRule {
	pool := connectionPool(&o.Connection)
	return newRule(namespace, o.RuleName(), o.PrivateHosts(), o.Label(), &networkingapi.TrafficPolicy{
		ConnectionPool: pool, PortLevelSettings: portSettings(tlsPorts(o), tlsSettings(o, namespace), pool)})
}

// serviceRule returns the rule for the pods of a key to a Service in the mesh, on the ports that they dial.
func serviceRule(o *origination.Origination, namespace string) *networkingv1.DestinationRule {
	pool := connectionPool(&o.Connection)
	return newRule(namespace, o.RuleName(), o.Host, o.Label(), &networkingapi.TrafficPolicy{
		ConnectionPool: pool, PortLevelSettings: portSettings(tlsPorts(o), tlsSettings(o, namespace), pool)})
}

// closedRule returns the rule for connections to the VIPs from pods that no other rule selects: TLS to a name that no
// certificate has. Istio merges rules of one host and exportTo (mergeDestinationRule,
// pilot/pkg/model/destination_rule.go), and only the selected rule would remain. So exportTo of this rule is the
// namespace's name, and "." for the others.
func closedRule(name, host, namespace string) *networkingv1.DestinationRule {
	r := newRule(namespace, name, host, "", closedPolicy)
	r.Spec.ExportTo = []string{namespace}
	return r
}

// closedPolicy is the same for all closed rules. The CA of mode ISTIO_MUTUAL is the mesh's, one certificate. With the
// system roots each cluster would parse all of them, a third of a MiB in every sidecar of the namespace.
var closedPolicy = &networkingapi.TrafficPolicy{Tls: &networkingapi.ClientTLSSettings{
	Mode:            networkingapi.ClientTLSSettings_ISTIO_MUTUAL,
	Sni:             closedServer,
	SubjectAltNames: []string{closedServer},
}}

// tlsPorts returns the numbers of the ports with TLS.
func tlsPorts(o *origination.Origination) []int32 {
	ports := make([]int32, len(o.Ports))
	for i := range o.Ports {
		ports[i] = o.Ports[i].Number
	}
	return ports
}

// portSettings returns the settings of the ports with TLS.
func portSettings(
	ports []int32,
	tls *networkingapi.ClientTLSSettings,
	pool *networkingapi.ConnectionPoolSettings,
) []*networkingapi.TrafficPolicy_PortTrafficPolicy {
	settings := make([]*networkingapi.TrafficPolicy_PortTrafficPolicy, len(ports))
	for i, n := range ports {
		settings[i] = &networkingapi.TrafficPolicy_PortTrafficPolicy{
			Port:           &networkingapi.PortSelector{Number: uint32(n)},
			ConnectionPool: pool,
			Tls:            tls,
		}
	}
	return settings
}

func newRule(namespace, name, host, label string, policy *networkingapi.TrafficPolicy) *networkingv1.DestinationRule {
	r := &networkingv1.DestinationRule{
		TypeMeta:   metav1.TypeMeta{APIVersion: istioVersion, Kind: "DestinationRule"},
		ObjectMeta: ownMeta(namespace, name),
		Spec: networkingapi.DestinationRule{
			Host:          host,
			ExportTo:      exportedHere,
			TrafficPolicy: policy,
		},
	}
	if label != "" { // without it the rule reaches sidecars without the mount, and they never become ready
		r.Spec.WorkloadSelector = &typeapi.WorkloadSelector{MatchLabels: map[string]string{label: "true"}}
	}
	return r
}

// selectedLabel returns the label key by which a rule selects pods, or "" if it has none or several.
func selectedLabel(r *networkingv1.DestinationRule) string {
	labels := r.Spec.GetWorkloadSelector().GetMatchLabels()
	if len(labels) != 1 {
		return ""
	}
	for key := range labels {
		return key
	}
	return ""
}

// tlsSettings returns the origination's settings for pods of the namespace. The roots are always written out: with an
// empty caCertificates, older Istio verifies nothing. Istio refuses roots if nothing is verified, and all files
// together with a credentialName.
func tlsSettings(o *origination.Origination, namespace string) *networkingapi.ClientTLSSettings {
	if o.InMesh() {
		return serviceTLS()
	}
	tls := &networkingapi.ClientTLSSettings{
		Mode:            networkingapi.ClientTLSSettings_SIMPLE,
		CredentialName:  o.TLS.Credential(namespace),
		Sni:             o.TLS.SNI,
		SubjectAltNames: slices.Clone(o.TLS.SubjectAltNames),
	}
	switch {
	case o.TLS.InsecureSkipVerify:
		tls.InsecureSkipVerify = wrapperspb.Bool(true)
	case o.TLS.SDS:
	case o.TLS.OwnCA():
		tls.CaCertificates = o.MountPath() + origination.MountedCA
	default:
		tls.CaCertificates = o.TLS.SystemRoots
	}
	if o.TLS.Mode == origination.ModeMutual {
		tls.Mode = networkingapi.ClientTLSSettings_MUTUAL
	}
	if o.TLS.ClientSecret != "" && !o.TLS.SDS {
		tls.ClientCertificate = o.MountPath() + origination.MountedCertificate
		tls.PrivateKey = o.MountPath() + origination.MountedKey
	}
	return tls
}

// connectionPool returns the settings of connections, or nil for Istio's defaults. A rule has them twice. Istio reads
// TCP's idle timeout only from the destination (buildOutboundNetworkFiltersWithSingleDestination, networkfilter.go),
// and everything else only from the port if the port has settings.
func connectionPool(c *origination.Connection) *networkingapi.ConnectionPoolSettings {
	if *c == (origination.Connection{}) {
		return nil
	}
	tcp := &networkingapi.ConnectionPoolSettings_TCPSettings{
		ConnectTimeout: pbDuration(c.ConnectTimeout),
		IdleTimeout:    pbDuration(c.IdleTimeout),
	}
	if k := c.Keepalive; k != nil {
		tcp.TcpKeepalive = &networkingapi.ConnectionPoolSettings_TCPSettings_TcpKeepalive{Probes: k.Probes}
		if k.Time.Duration != 0 {
			tcp.TcpKeepalive.Time = pbDuration(&k.Time)
		}
		if k.Interval.Duration != 0 {
			tcp.TcpKeepalive.Interval = pbDuration(&k.Interval)
		}
	}
	return &networkingapi.ConnectionPoolSettings{Tcp: tcp}
}

func pbDuration(d *metav1.Duration) *durationpb.Duration {
	if d == nil {
		return nil
	}
	return durationpb.New(d.Duration)
}
