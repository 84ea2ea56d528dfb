package mesh

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networkingapi "istio.io/api/networking/v1alpha3"
	typeapi "istio.io/api/type/v1beta1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// carrier is an entry that carries traffic: one desired, one that exists, or both in one.
type carrier struct {
	host      string
	addresses []netip.Prefix
	// targets are the targets of each port; two where the entry is about to change.
	targets map[uint32][]uint32
}

// carriersOf returns the desired and the existing entries of ours, by host and sorted by it.
func carriersOf(desired, existing []*networkingv1.ServiceEntry) []*carrier {
	byHost := map[string]*carrier{}
	for _, e := range slices.Concat(desired, existing) {
		host := hostOf(e)
		if host == "" {
			continue
		}
		c := byHost[host]
		if c == nil {
			c = &carrier{host: host, targets: map[uint32][]uint32{}}
			byHost[host] = c
		}
		c.addresses = append(c.addresses, addressesOf(e)...)
		for _, p := range e.Spec.Ports {
			c.targets[p.GetNumber()] = append(c.targets[p.GetNumber()], targetOf(p))
		}
	}
	return slices.SortedFunc(maps.Values(byHost), func(a, b *carrier) int { return strings.Compare(a.host, b.host) })
}

func targetOf(p *networkingapi.ServicePort) uint32 { return cmp.Or(p.GetTargetPort(), p.GetNumber()) }

// mayCarry reports whether the entry, though not the origination's own, may carry its traffic: it has an address
// and a port that a pod of it dials, or is the one that the same host has by the other way of routing.
func (c *carrier) mayCarry(o *origination.Origination) bool {
	return c.host == o.Host || c.host == o.PrivateHost() || c.meets(dialled(o), o.PortNumbers())
}

// meets reports whether the entry may carry traffic to one of the addresses and ports.
func (c *carrier) meets(dialled []netip.Prefix, ports []int32) bool {
	if _, ok := overlap(dialled, c.addresses); !ok {
		return false
	}
	return slices.ContainsFunc(ports, func(n int32) bool { return c.targets[uint32(n)] != nil })
}

// rules returns the DestinationRules of all live claims, refused ones too, on every entry that may carry
// their traffic, sorted by name. A claim that is led to where it did not want to go is so with its own
// TLS settings or, if those do not fit, not at all; never in plaintext.
func rules(claims []Claim, carriers []*carrier, namespace string, cfg config.Config) []*networkingv1.DestinationRule {
	byName := map[string]*networkingv1.DestinationRule{}
	for i := range claims {
		o := &claims[i].Origination
		tls, pool := tlsSettings(o, namespace, cfg), connectionPool(&o.Connection)
		reached := carriers
		if o.InMesh() {
			reached = []*carrier{serviceCarrier(o)}
		}
		for _, c := range reached {
			switch {
			case c.host == o.MeshHost():
				if ports := portSettings(c, o.Passthrough, tls, pool); len(ports) > 0 {
					byName[o.RuleName()] = newRule(namespace, o.RuleName(), c.host, o.RuleLabel(),
						&networkingapi.TrafficPolicy{ConnectionPool: pool.DeepCopy(), PortLevelSettings: ports})
				}
			case c.mayCarry(o):
				// TLS on whatever port the entry will ever have: what is passed through there may be a TLS port
				// to another claim of the same pod, and nobody adds ports here once the claims have parted.
				name := origination.ObjectName(o.Host, origination.Hash("rule on another host", c.host, o.RuleLabel()))
				byName[name] = newRule(namespace, name, c.host, o.RuleLabel(), &networkingapi.TrafficPolicy{Tls: tls.DeepCopy(), ConnectionPool: pool.DeepCopy()})
			}
		}
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b *networkingv1.DestinationRule) int { return strings.Compare(a.Name, b.Name) })
}

// portSettings puts TLS on every port of the entry, those of other pods too, save what the app itself
// does TLS on and the entry passes through as it is.
func portSettings(c *carrier, passthrough []int32, tls *networkingapi.ClientTLSSettings, pool *networkingapi.ConnectionPoolSettings) []*networkingapi.TrafficPolicy_PortTrafficPolicy {
	var ports []*networkingapi.TrafficPolicy_PortTrafficPolicy
	for _, n := range slices.Sorted(maps.Keys(c.targets)) {
		asItIs := !slices.ContainsFunc(c.targets[n], func(t uint32) bool { return t != n })
		if asItIs && slices.Contains(passthrough, int32(n)) {
			continue
		}
		ports = append(ports, &networkingapi.TrafficPolicy_PortTrafficPolicy{
			Port:           &networkingapi.PortSelector{Number: n},
			ConnectionPool: pool.DeepCopy(),
			Tls:            tls.DeepCopy(),
		})
	}
	return ports
}

func newRule(namespace, name, host, label string, policy *networkingapi.TrafficPolicy) *networkingv1.DestinationRule {
	return &networkingv1.DestinationRule{
		TypeMeta: metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "DestinationRule"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace,
			Name:      name,
			Labels:    map[string]string{origination.ManagedByLabel: origination.ManagedBy},
		},
		Spec: networkingapi.DestinationRule{
			Host:     host,
			ExportTo: []string{onlyHere},
			// Without it the rule reaches sidecars without the mount, and they never become ready.
			WorkloadSelector: &typeapi.WorkloadSelector{MatchLabels: map[string]string{label: "true"}},
			TrafficPolicy:    policy,
		},
	}
}

// tlsSettings spells the origination's settings for pods of the namespace. The roots are always named: an empty
// caCertificates verifies nothing in older Istio. Where nothing is to be verified Istio refuses them, and beside
// a credentialName every file.
func tlsSettings(o *origination.Origination, namespace string, cfg config.Config) *networkingapi.ClientTLSSettings {
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
		tls.CaCertificates = cfg.Istio.SystemRoots
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

// connectionPool spells the settings of connections; nil leaves Istio's defaults. A rule has them twice: of TCP's
// idle timeout Istio reads the destination's alone (buildOutboundNetworkFiltersWithSingleDestination of its
// networkfilter.go), of the rest a port's own, beside which the destination's do not count.
func connectionPool(c *origination.Connection) *networkingapi.ConnectionPoolSettings {
	if *c == (origination.Connection{}) {
		return nil
	}
	tcp := &networkingapi.ConnectionPoolSettings_TCPSettings{ConnectTimeout: pbDuration(c.ConnectTimeout), IdleTimeout: pbDuration(c.IdleTimeout)}
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
