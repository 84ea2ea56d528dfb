package sidecar

import (
	"slices"
	"strconv"
	"strings"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// redisPort is the default port of a Redis server.
const redisPort = 6379

// CheckServer returns what keeps the clients of a Redis server in the mesh from its sidecar. Clients of a port that
// bypasses the sidecar need no TLS. The port of the server is not known here, so only the usual one is refused. Other
// ports get a warning, because an exporter may be scraped in plaintext. [Pod.Check] covers the rest.
func (p *Pod) CheckServer() (problems []origination.Problem, warnings []string) {
	var f findings
	for _, c := range p.captures {
		included, excluded := c[includeInbound], c[excludeInbound]
		switch {
		// If ports are included, exclusions have no effect (handleInboundPortsInclude,
		// tools/istio-iptables/pkg/capture/run.go).
		case included.value != "*" && !listsPort(included.value, redisPort):
			f.bypass(included, "must include port %d of Redis, or clients reach it in plaintext; set it to \"*\"",
				redisPort)
		case included.value != "*":
			f.warn("%s: %q: clients reach all other ports in plaintext; add every port on which Redis listens",
				included.at, included.text())
		case listsPort(excluded.value, redisPort):
			f.bypass(excluded, "must not exclude port %d of Redis, or clients reach it in plaintext; "+
				"remove it from the list", redisPort)
		default:
			if ports := appPorts(excluded.value); len(ports) > 0 {
				f.warn("%s: %q: clients reach port %s in plaintext; if Redis listens there, remove it from the list",
					excluded.at, excluded.text(), strings.Join(ports, ", "))
			}
		}
	}
	return f.distinct()
}

// appPorts returns the ports of the list that are not the sidecar's own.
func appPorts(list string) []string {
	own := origination.SidecarPorts()
	return slices.DeleteFunc(split(list), func(port string) bool {
		n, err := strconv.ParseInt(port, 10, 32)
		return err == nil && slices.Contains(own, int32(n))
	})
}
