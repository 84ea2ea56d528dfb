package patches

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// redisPort is where a Redis server listens unless it is told otherwise.
const redisPort = 6379

// ServerObstacles says what of a pod that is a Redis server in the mesh keeps clients from its sidecar, beside
// what Obstacles says of any pod: nobody asks clients of a port that goes around the sidecar for TLS. Which
// port the server has is not known here, so that only its usual one is refused; of others, as of an
// exporter's that is scraped in plaintext, there is a warning.
func ServerObstacles(pod *corev1.Pod) (problems []origination.Problem, warnings []string) {
	const rule = "so clients reach it around the sidecar, in plaintext; "
	for _, c := range captures(pod) {
		if included := c.includeInbound; included.at != nil && included.value != "*" {
			if !listsPort(included.value, redisPort) {
				problems = append(problems, invalid(origination.ReasonBypass, included.at, included.text(),
					fmt.Sprintf("does not include port %d, on which Redis listens, %sset it to \"*\"", redisPort, rule)))
			} else {
				warnings = append(warnings, fmt.Sprintf("%s: %q: clients of other ports than these reach them around the sidecar, in plaintext", included.at, included.text()))
			}
			continue // exclusions do not count then (handleInboundPortsInclude, tools/istio-iptables/pkg/capture/run.go)
		}
		if listsPort(c.excludeInbound.value, redisPort) {
			problems = append(problems, invalid(origination.ReasonBypass, c.excludeInbound.at, c.excludeInbound.text(),
				fmt.Sprintf("excludes port %d, on which Redis listens, %stake it out of the list", redisPort, rule)))
		} else if ports := foreignPorts(c.excludeInbound.value); len(ports) > 0 {
			warnings = append(warnings, fmt.Sprintf("%s: clients of port %s reach it around the sidecar, in plaintext: Redis must not listen there", c.excludeInbound.at, strings.Join(ports, ", ")))
		}
	}
	slices.Sort(warnings)
	return distinct(problems), slices.Compact(warnings)
}

// foreignPorts are those of the list that are not the sidecar's own.
func foreignPorts(list string) []string {
	own := origination.SidecarPorts()
	return slices.DeleteFunc(split(list), func(port string) bool {
		n, err := strconv.ParseInt(port, 10, 32)
		return err == nil && slices.Contains(own, int32(n))
	})
}
