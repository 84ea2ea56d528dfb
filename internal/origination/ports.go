package origination

import "slices"

// sidecarPorts are the ports of the sidecar itself (istio.io/docs/ops/deployment/application-requirements). The capture
// does not redirect them.
var sidecarPorts = []int32{15000, 15001, 15004, 15006, 15008, 15009, 15020, 15021, 15053, 15090}

// SidecarPorts returns the ports of the sidecar itself, which an app cannot dial.
func SidecarPorts() []int32 { return slices.Clone(sidecarPorts) }
