package adopt

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	networkingapi "istio.io/api/networking/v1alpha3"
	v1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// policy is the part of a rule's traffic policy that is in effect at a port.
type policy struct {
	tls  *networkingapi.ClientTLSSettings
	pool *networkingapi.ConnectionPoolSettings
	// unsupported are the fields that no annotation has.
	unsupported []string
}

// policyAt returns the policy of a rule at a port. A port's own settings replace those of the destination as a whole
// (MergeTrafficPolicy, pilot/pkg/networking/core/cluster_traffic_policy.go).
func policyAt(rule *v1.DestinationRule, port uint32) policy {
	all := rule.Spec.TrafficPolicy
	if all == nil {
		return policy{}
	}
	for _, own := range all.PortLevelSettings {
		if own.GetPort().GetNumber() == port {
			return policy{own.Tls, own.ConnectionPool, unsupported("portLevelSettings", own.LoadBalancer,
				own.OutlierDetection != nil, own.ConnectionPool)}
		}
	}
	fields := unsupported("trafficPolicy", all.LoadBalancer, all.OutlierDetection != nil, all.ConnectionPool)
	if all.Tunnel != nil {
		fields = append(fields, "trafficPolicy.tunnel")
	}
	if all.ProxyProtocol != nil {
		fields = append(fields, "trafficPolicy.proxyProtocol")
	}
	return policy{all.Tls, all.ConnectionPool, fields}
}

// unsupported returns the fields of a policy that no annotation has. A simple load balancer is none: it decides
// nothing for one host.
func unsupported(path string, balancer *networkingapi.LoadBalancerSettings, outliers bool,
	pool *networkingapi.ConnectionPoolSettings) (fields []string) {
	add := func(field string, present bool) {
		if present {
			fields = append(fields, path+"."+field)
		}
	}
	_, simple := balancer.GetLbPolicy().(*networkingapi.LoadBalancerSettings_Simple)
	simple = simple && balancer.LocalityLbSetting == nil && balancer.Warmup == nil &&
		balancer.WarmupDurationSecs == nil //nolint:staticcheck // users may still set it
	add("loadBalancer", balancer != nil && !simple)
	add("outlierDetection", outliers)
	add("connectionPool.http", pool.GetHttp() != nil)
	add("connectionPool.tcp.maxConnections", pool.GetTcp().GetMaxConnections() != 0)
	add("connectionPool.tcp.maxConnectionDuration", pool.GetTcp().GetMaxConnectionDuration() != nil)
	return fields
}

// originates reports whether TLS settings make the sidecar originate TLS.
func originates(tls *networkingapi.ClientTLSSettings) bool {
	return tls != nil && tls.Mode != networkingapi.ClientTLSSettings_DISABLE
}

// originatesAnywhere reports whether a rule originates TLS other than the mesh's own, or the mesh's own to one Redis.
func originatesAnywhere(rule *v1.DestinationRule) bool {
	all := rule.Spec.TrafficPolicy
	var settings []*networkingapi.ClientTLSSettings
	if all != nil {
		settings = append(settings, all.Tls)
		for _, own := range all.PortLevelSettings {
			settings = append(settings, own.Tls)
		}
	}
	for _, subset := range rule.Spec.Subsets {
		settings = append(settings, subset.GetTrafficPolicy().GetTls())
	}
	return slices.ContainsFunc(settings, func(tls *networkingapi.ClientTLSSettings) bool {
		return originates(tls) && (tls.Mode != networkingapi.ClientTLSSettings_ISTIO_MUTUAL || isRedisRule(rule))
	})
}

// isRedisRule reports whether a rule with the mesh's own TLS is for one Redis: most such rules are for whole meshes.
func isRedisRule(rule *v1.DestinationRule) bool {
	return !strings.HasPrefix(rule.Spec.Host, "*") &&
		(strings.Contains(rule.Spec.Host, "redis") || strings.Contains(rule.Name, "redis") ||
			slices.ContainsFunc(rule.Spec.GetTrafficPolicy().GetPortLevelSettings(),
				func(own *networkingapi.TrafficPolicy_PortTrafficPolicy) bool {
					return own.GetPort().GetNumber() == 6379
				}))
}

// settings are the annotations of one origination, by the names of their keys.
type settings map[string]string

// set writes an annotation that has a value.
func (s settings) set(name, value string) {
	if value != "" {
		s[name] = value
	}
}

// duration returns a duration as the annotations have it.
func duration(d *durationpb.Duration) string {
	return origination.DurationText(&metav1.Duration{Duration: d.AsDuration()})
}

// connection writes the settings of a connection pool.
func (s settings) connection(pool *networkingapi.ConnectionPoolSettings) {
	tcp := pool.GetTcp()
	if d := tcp.GetConnectTimeout(); d != nil {
		s.set("connect-timeout", duration(d))
	}
	if d := tcp.GetIdleTimeout(); d != nil {
		s.set("idle-timeout", duration(d))
	}
	var parts []string
	keepalive := tcp.GetTcpKeepalive()
	if d := keepalive.GetTime(); d != nil {
		parts = append(parts, "time="+duration(d))
	}
	if d := keepalive.GetInterval(); d != nil {
		parts = append(parts, "interval="+duration(d))
	}
	if n := keepalive.GetProbes(); n != 0 {
		parts = append(parts, fmt.Sprintf("probes=%d", n))
	}
	s.set("tcp-keepalive", strings.Join(parts, ","))
}
