package origination

import (
	"slices"
	"strconv"
	"strings"
)

// sidecarPorts are the ports of the sidecar itself (istio.io/docs/ops/deployment/application-requirements).
var sidecarPorts = []int32{15000, 15001, 15004, 15006, 15008, 15009, 15020, 15021, 15053, 15090}

// SidecarPorts returns the ports of the sidecar itself. It listens on them at every address, so no other listener can
// have them at every address too: that of a CIDR, of HTTP, or of an entry without addresses. A VIP or an IP can.
func SidecarPorts() []int32 { return slices.Clone(sidecarPorts) }

// Number reads a port in plain decimal notation.
func Number(text string) (int32, string) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != text {
		return 0, "must be a port number from 1 to 65535, as in \"6379\""
	}
	return int32(n), ""
}

// NumberRange reads a port or a range of ports, "6379" or "6379-6400".
func NumberRange(text string) (from, to int32, problem string) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	from, problem = Number(first)
	if problem == "" {
		to, problem = Number(last)
	}
	if problem != "" || from > to {
		return 0, 0, "must be a port number from 1 to 65535 or a range, as in \"6379\" or \"6379-6400\""
	}
	return from, to, ""
}
