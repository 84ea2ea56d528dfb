package annotation

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// warnings are about what is allowed, and weaker than it looks.
func (req *request) warnings(policy config.Policy) []string {
	var all []string
	i := req.instance
	if _, forbidden := policy.ForbidsInsecure(); req.TLS.InsecureSkipVerify && !forbidden {
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
	all = append(all, req.plaintextNameWarnings()...)
	return append(all, req.protocolWarnings()...)
}

// withoutTLS matches names that ElastiCache gives to caches without TLS. With TLS, the same cache has other names:
//
//	cart.abc123.ng.0001.usw2.cache.amazonaws.com      master.cart.abc123.usw2.cache.amazonaws.com
//	cart-ro.abc123.ng.0001.usw2.cache.amazonaws.com   replica.cart.abc123.usw2.cache.amazonaws.com
//	cart.abc123.clustercfg.usw2.cache.amazonaws.com   clustercfg.cart.abc123.usw2.cache.amazonaws.com
//	cart-001.abc123.0001.usw2.cache.amazonaws.com     cart-001.cart.abc123.usw2.cache.amazonaws.com
var withoutTLS = regexp.MustCompile(
	`^([^.]+)\.([^.]+)\.(ng\.0001|clustercfg|0001)\.([^.]+\.cache\.amazonaws\.com(?:\.cn)?)$`)

// numberOfNode is what ends the first part of a node's name: -001, or with shards -0001-001.
var numberOfNode = regexp.MustCompile(`(-[0-9]{4})?-[0-9]{3}$`)

// nameWithTLS guesses the name with TLS of a cache of ElastiCache, by its name without. It returns "" for other names.
func nameWithTLS(host string) string {
	if !strings.Contains(host, ".cache.amazonaws.com") { // mostly, and cheaper on the admission path
		return ""
	}
	m := withoutTLS.FindStringSubmatch(host)
	if m == nil {
		return ""
	}
	first, cache := "clustercfg", m[1]
	switch m[3] {
	case "ng.0001":
		first = "master"
		if reader, found := strings.CutSuffix(cache, "-ro"); found {
			first, cache = "replica", reader
		}
	case "0001":
		first, cache = cache, numberOfNode.ReplaceAllString(cache, "")
	}
	return strings.Join([]string{first, cache, m[2], m[4]}, ".")
}

// plaintextNameWarnings warns about a host and the first node whose names say that the server has no TLS.
func (req *request) plaintextNameWarnings() []string {
	warning := func(key, host string) string {
		name := nameWithTLS(host)
		if name == "" {
			return ""
		}
		return fmt.Sprintf("%s: %s looks like a name of ElastiCache without TLS. By that guess, its name with TLS is %s. "+
			"Check the cache's endpoints, and dial the name with TLS in the app", req.instance.at(key), host, name)
	}
	var all []string
	if text := warning("host", req.Host); text != "" {
		all = append(all, text)
	}
	for _, node := range req.Nodes {
		if text := warning("nodes", node.Host); text != "" {
			return append(all, text)
		}
	}
	return all
}

// otherPortsWarning warns that ports of dialled addresses which are not listed have no TLS, unless the pod is
// restricted. It is for nodes, whose further ports a client may learn from a server: of Sentinel, or of nodes behind
// one address.
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
