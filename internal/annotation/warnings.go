package annotation

import (
	"fmt"
	"strings"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// warnings are about what is allowed, and weaker than it looks.
func (req *request) warnings(policy config.Policy) []string {
	var all []string
	i := req.instance
	if req.TLS.InsecureSkipVerify && policy.AllowInsecure {
		all = append(all, fmt.Sprintf("%s: any certificate is accepted for %s, so an attacker on the path can read "+
			"and change all traffic; set %s instead",
			i.at("insecure-skip-verify"), req.Host, origination.KeyOf(i.name, "ca-secret")))
	}
	if req.Resolution() == origination.ResolutionNone && !req.HostSynthesised {
		all = append(all, fmt.Sprintf("%s: %s has several addresses, so it gets no VIP; the app must dial the addresses, "+
			"as clients of Redis Cluster and Sentinel do", i.at("host"), req.Host))
	}
	for _, name := range req.TLS.SubjectAltNames {
		if strings.HasPrefix(name, "*.") {
			all = append(all, fmt.Sprintf("%s: %s matches only a certificate that has exactly this wildcard. "+
				"The name of one server matches that certificate too; write it, unless you do not know one",
				i.at("subject-alt-names"), name))
		}
	}
	all = append(all, req.nodesWarning()...)
	return append(all, req.protocolWarnings()...)
}

// otherPortsWarning warns that ports of dialled addresses which are not listed have no TLS, unless the pod is restricted.
// It is for nodes, whose further ports a client may learn from a server: of Sentinel, or of nodes behind one address.
func (req *request) otherPortsWarning(settings origination.Settings) []string {
	if req.Resolution() != origination.ResolutionNone || settings.Sidecar == origination.SidecarRestrict {
		return nil
	}
	return []string{fmt.Sprintf("%s: other ports of these addresses are dialled in plaintext. List every port that the "+
		"servers announce in %s, or set %ssidecar: restrict, which closes the others", req.instance.at("addresses"),
		origination.KeyOf(req.instance.name, "port"), origination.Prefix)}
}

// startTLS are the ports of servers that begin TLS inside their own protocol. PostgreSQL 17 also accepts TLS from the
// first byte, but only with ALPN, which the sidecar does not send.
var startTLS = map[int32]string{3306: "MySQL", 5432: "PostgreSQL"}

// protocolWarnings warns about protocols that do not work as the app expects.
func (req *request) protocolWarnings() []string {
	var all []string
	for _, port := range req.Ports {
		server, known := startTLS[port.Target]
		if !known || req.InMesh() {
			continue
		}
		key := "port"
		if port.Target != port.Number {
			key = "target-port"
		}
		all = append(all, fmt.Sprintf("%s: %d is the port of %s, whose TLS begins inside its protocol. "+
			"TLS from the first byte does not work there; use the app's own TLS, or write the port of a TLS proxy",
			req.instance.at(key), port.Target, server))
	}
	if req.Protocol == protocolRedis {
		all = append(all, fmt.Sprintf("%s: if PILOT_ENABLE_REDIS_FILTER is set in istiod, the sidecar refuses AUTH and "+
			"follows no redirection of a cluster. Without it, redis is the same as tcp; remove this key",
			req.instance.at("protocol")))
	}
	return all
}

// protocolRedis is the protocol for which Istio can add its Redis filter (buildRedisFilter,
// pilot/pkg/networking/core/networkfilter.go). The filter has no password and no enable_redirection.
const protocolRedis = "redis"
