package patches

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Every way around the sidecar, by the annotations that cause it.
func TestBypassByAnnotation(t *testing.T) {
	const exPorts = "metadata.annotations[" + excludeOutboundPorts + "]"
	const exRanges, inRanges = "metadata.annotations[" + excludeOutboundRanges + "]", "metadata.annotations[" + includeOutboundRanges + "]"
	pinned, single, network := one(), one(addressed("10.0.0.3/32")), one(addressed("10.0.0.0/30"))
	both := one(func(o *origination.Origination) { o.Passthrough = []int32{6380} })
	for name, test := range map[string]struct {
		changes []change
		os      []origination.Origination
		problem string
	}{
		"our port is excluded":                                      {[]change{annotated(excludeOutboundPorts, "6379")}, pinned, `Bypass: ` + exPorts + `: Invalid value: "6379": excludes port 6379 of redis.example.com from the sidecar`},
		"our port is excluded among others":                         {[]change{annotated(excludeOutboundPorts, "80, 6379 ,443")}, pinned, `Bypass: ` + exPorts},
		"our port is excluded with leading zeros":                   {[]change{annotated(excludeOutboundPorts, "06379")}, pinned, `Bypass: ` + exPorts},
		"our passthrough port is excluded":                          {[]change{annotated(excludeOutboundPorts, "6380")}, both, `Bypass: ` + exPorts + `: Invalid value: "6380": excludes port 6380`},
		"both ports are excluded":                                   {[]change{annotated(excludeOutboundPorts, "6380,6379")}, both, `Bypass: ` + exPorts + `: Invalid value: "6380,6379": excludes port 6379, 6380`},
		"all ports are excluded":                                    {[]change{annotated(excludeOutboundPorts, "*")}, pinned, `Bypass: ` + exPorts},
		"the server's port is excluded, not ours":                   {[]change{annotated(excludeOutboundPorts, "6380")}, pinned, ""},
		"other ports are excluded":                                  {[]change{annotated(excludeOutboundPorts, "63790,637,,x,6380:6390")}, pinned, ""},
		"exclusion wins over inclusion":                             {[]change{annotated(excludeOutboundPorts, "6379"), annotated(includeOutboundPorts, "6379")}, pinned, `Bypass: ` + exPorts},
		"the pin's range is excluded":                               {[]change{annotated(excludeOutboundRanges, "240.0.0.0/4")}, pinned, `Bypass: ` + exRanges + `: Invalid value: "240.0.0.0/4": excludes 240.241.7.31/32 of redis.example.com`},
		"the pin's range is excluded, host bits set":                {[]change{annotated(excludeOutboundRanges, "240.241.7.1/24")}, pinned, `Bypass: ` + exRanges},
		"another range is excluded":                                 {[]change{annotated(excludeOutboundRanges, "10.0.0.0/8,240.240.0.0/16")}, pinned, ""},
		"our address is excluded":                                   {[]change{annotated(excludeOutboundRanges, "192.168.0.0/16, 10.0.0.3/32")}, single, `Bypass: ` + exRanges + `: Invalid value: "192.168.0.0/16, 10.0.0.3/32": excludes 10.0.0.3/32 of ip-10-0-0-3`},
		"the Service's address is excluded":                         {[]change{annotated(excludeOutboundRanges, "10.96.0.0/12")}, service("10.96.0.10"), `Bypass: ` + exRanges + `: Invalid value: "10.96.0.0/12": excludes 10.96.0.10/32 of redis.data.svc.cluster.local`},
		"the included ranges leave the Service's address out":       {[]change{annotated(includeOutboundRanges, "10.0.0.0/16")}, service("10.96.0.10"), `Bypass: ` + inRanges},
		"another address than the Service's is excluded":            {[]change{annotated(excludeOutboundRanges, "10.96.0.1/32")}, service("10.96.0.10"), ""},
		"a Service's port is excluded":                              {[]change{annotated(excludeOutboundPorts, "6379")}, service("10.96.0.10"), `Bypass: ` + exPorts},
		"a part of our network is excluded":                         {[]change{annotated(excludeOutboundRanges, "10.0.0.2/32")}, network, `Bypass: ` + exRanges},
		"a neighbour of our network is excluded":                    {[]change{annotated(excludeOutboundRanges, "10.0.0.4/30")}, network, ""},
		"an exclusion wins over an included port":                   {[]change{annotated(excludeOutboundRanges, "10.0.0.0/8"), annotated(includeOutboundPorts, "6379")}, single, `Bypass: ` + exRanges},
		"the included ranges leave the pin out":                     {[]change{annotated(includeOutboundRanges, "10.96.0.0/12")}, pinned, `Bypass: ` + inRanges + `: Invalid value: "10.96.0.0/12": does not include 240.241.7.31/32 of redis.example.com`},
		"nothing is included":                                       {[]change{annotated(includeOutboundRanges, "")}, pinned, `Bypass: ` + inRanges + `: Invalid value: "": does not include`},
		"everything is included":                                    {[]change{annotated(includeOutboundRanges, "*")}, pinned, ""},
		"the included ranges hold the pin":                          {[]change{annotated(includeOutboundRanges, "10.96.0.0/12,240.241.0.0/16")}, pinned, ""},
		"our port is included whatever the address":                 {[]change{annotated(includeOutboundRanges, ""), annotated(includeOutboundPorts, "6379")}, pinned, ""},
		"only one of two ports is included":                         {[]change{annotated(includeOutboundRanges, ""), annotated(includeOutboundPorts, "6379")}, both, `Bypass: ` + inRanges + `: Invalid value: "": does not include 240.241.7.31/32 of redis.example.com, so this traffic would go around the sidecar; give the pod an annotation traffic.sidecar.istio.io/includeOutboundIPRanges with it, or traffic.sidecar.istio.io/includeOutboundPorts with port 6380`},
		"a part of our network is included":                         {[]change{annotated(includeOutboundRanges, "10.0.0.0/31")}, network, `Bypass: ` + inRanges},
		"our network is included in two halves":                     {[]change{annotated(includeOutboundRanges, "10.0.0.2/31,10.0.0.0/31")}, network, ""},
		"our network is included but for one":                       {[]change{annotated(includeOutboundRanges, "10.0.0.2/31,10.0.0.1/32")}, network, `Bypass: ` + inRanges},
		"no interception":                                           {[]change{annotated(interceptionMode, "NONE")}, pinned, `Bypass: metadata.annotations[sidecar.istio.io/interceptionMode]: Invalid value: "NONE"`},
		"interception by TPROXY":                                    {[]change{annotated(interceptionMode, "TPROXY")}, pinned, ""},
		"the pod's interface is excluded":                           {[]change{annotated(excludeInterfaces, "net1,eth0")}, pinned, `Bypass: metadata.annotations[traffic.sidecar.istio.io/excludeInterfaces]: Invalid value: "net1,eth0"`},
		"a port is excluded by proxy metadata":                      {[]change{annotated(proxyConfig, "proxyMetadata:\n  ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE: \"6379\"\n")}, pinned, `Bypass: metadata.annotations[proxy.istio.io/config]: Invalid value: "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE 6379"`},
		"an annotation hides the proxy metadata":                    {[]change{annotated(proxyConfig, `{"proxyMetadata":{"ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE":"6379"}}`), annotated(excludeOutboundPorts, "80")}, pinned, ""},
		"a port is excluded by proxy metadata, protobuf's spelling": {[]change{annotated(proxyConfig, "proxy_metadata: {ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE: \"6379\"}")}, pinned, `Bypass: metadata.annotations[proxy.istio.io/config]`},
		"proxy metadata that cannot be read":                        {[]change{annotated(proxyConfig, "proxyMetadata: [")}, pinned, ""},
		"an app in a group left out":                                {[]change{annotated(proxyConfig, "proxyMetadata: {ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE: \"5,2000\"}"), groupOf(2000)}, pinned, `Bypass: metadata.annotations[proxy.istio.io/config]: Invalid value: "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE 5,2000": traffic of group 2000 is not captured`},
		"an app in a group not left out":                            {[]change{annotated(proxyConfig, "proxyMetadata: {ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE: \"5,2000\"}"), groupOf(2001)}, pinned, ""},
		"an app outside of the captured groups":                     {[]change{annotated(proxyConfig, "proxyMetadata: {ISTIO_OUTBOUND_OWNER_GROUPS: \"2000\"}"), groupOf(2001)}, pinned, `Bypass: metadata.annotations[proxy.istio.io/config]: Invalid value: "ISTIO_OUTBOUND_OWNER_GROUPS 2000": only traffic of these groups is captured`},
		"an app of an unknown group":                                {[]change{annotated(proxyConfig, "proxyMetadata: {ISTIO_OUTBOUND_OWNER_GROUPS: \"2000\"}")}, pinned, `Bypass: metadata.annotations[proxy.istio.io/config]`},
		"an app of a captured group":                                {[]change{annotated(proxyConfig, "proxyMetadata: {ISTIO_OUTBOUND_OWNER_GROUPS: \"2000\"}"), groupOf(2000)}, pinned, ""},
	} {
		t.Run(name, func(t *testing.T) {
			problems, _ := Obstacles(newPod(test.changes...), meshed, test.os)
			wantProblems(t, strings.FieldsFunc(test.problem, func(r rune) bool { return r == '\n' }), problems)
		})
	}
}

// service is an origination to a Service of the mesh.
func service(ips ...string) []origination.Origination {
	return one(func(o *origination.Origination) {
		o.Host, o.TLS, o.VIPs = "redis.data.svc.cluster.local", origination.TLS{Mode: origination.ModeIstioMutual}, nil
		for _, ip := range ips {
			o.ClusterIPs = append(o.ClusterIPs, netip.MustParseAddr(ip))
		}
	})
}

// The pods behind a headless Service may get any address.
func TestLimitsOfTheCaptureAreWarnedAboutForAHeadlessService(t *testing.T) {
	const excludes = `metadata.annotations[traffic.sidecar.istio.io/excludeOutboundIPRanges]: "10.0.0.0/8" excludes these addresses from the sidecar: where pods of redis.data.svc.cluster.local are among them, they are reached without TLS`
	const includes = `metadata.annotations[traffic.sidecar.istio.io/includeOutboundIPRanges]: "10.0.0.0/8" includes these addresses alone in the sidecar: pods of redis.data.svc.cluster.local that are not among them are reached without TLS`
	for name, test := range map[string]struct {
		changes []change
		os      []origination.Origination
		want    []string
	}{
		"no limit":                        {nil, service(), nil},
		"ranges are excluded":             {[]change{annotated(excludeOutboundRanges, "10.0.0.0/8")}, service(), []string{excludes}},
		"ranges alone are included":       {[]change{annotated(includeOutboundRanges, "10.0.0.0/8")}, service(), []string{includes}},
		"our port is included":            {[]change{annotated(includeOutboundRanges, "10.0.0.0/8"), annotated(includeOutboundPorts, "6379")}, service(), nil},
		"the Service has an address":      {[]change{annotated(excludeOutboundRanges, "10.0.0.0/9")}, service("10.200.0.1"), nil},
		"the host is none of a Service":   {[]change{annotated(excludeOutboundRanges, "10.0.0.0/8")}, one(), nil},
		"everything is included, spelled": {[]change{annotated(includeOutboundRanges, "0.0.0.0/0,::/0")}, service(), nil},
	} {
		t.Run(name, func(t *testing.T) {
			problems, warnings := Obstacles(newPod(test.changes...), meshed, test.os)
			wantProblems(t, nil, problems)
			if !slices.Equal(test.want, warnings) {
				t.Errorf("warnings %q, want %q", warnings, test.want)
			}
		})
	}
}

func groupOf(gid int64) change {
	return func(pod *corev1.Pod) { pod.Spec.Containers[0].SecurityContext = runsAs(nil, &gid) }
}

// What only the injected containers show: mesh-wide values, and what a template of the mesh's own says.
func TestBypassByInjectedContainers(t *testing.T) {
	const args, env = "spec.initContainers[0].args", "spec.initContainers[0].env[0]"
	withArgs := func(a ...string) change {
		return func(pod *corev1.Pod) { pod.Spec.InitContainers[0].Args = initArgs(a...) }
	}
	withEnv := func(name, value string) change {
		return func(pod *corev1.Pod) {
			pod.Spec.InitContainers[0].Env = []corev1.EnvVar{{Name: name, Value: value}}
		}
	}
	validation := func(pod *corev1.Pod) { pod.Spec.InitContainers[0].Name = istioValidation }
	mode := func(pod *corev1.Pod) {
		pod.Spec.InitContainers[1].Env = []corev1.EnvVar{{Name: "A"}, {Name: interceptionModeEnv, Value: "NONE"}}
	}
	for name, test := range map[string]struct {
		changes []change
		problem string
	}{
		"nothing is in the way":                          {[]change{native}, ""},
		"a classic sidecar, nothing in the way":          {[]change{classic}, ""},
		"the mesh excludes our port":                     {[]change{native, withArgs("-o", "80,6379")}, `Bypass: ` + args + `: Invalid value: "-o 80,6379": excludes port 6379`},
		"the mesh excludes a range of ports":             {[]change{native, withArgs("-o", "6000:6999")}, `Bypass: ` + args},
		"the mesh excludes our port, long spelling":      {[]change{native, withArgs("--istio-local-outbound-ports-exclude=6379")}, `Bypass: ` + args + `: Invalid value: "--istio-local-outbound-ports-exclude 6379"`},
		"the mesh excludes our port, joined spelling":    {[]change{native, withArgs("-o6379")}, `Bypass: ` + args},
		"the mesh excludes our port, spelled with =":     {[]change{native, withArgs("-o=6379")}, `Bypass: ` + args},
		"the last spelling counts":                       {[]change{native, withArgs("-o", "6379", "-o", "80")}, ""},
		"the mesh excludes our port, with istio-cni":     {[]change{native, validation, withArgs("-o", "6379")}, `Bypass: ` + args},
		"a container of the name that is something else": {[]change{native, func(pod *corev1.Pod) { pod.Spec.InitContainers[0].Args = []string{"-o", "6379"} }}, ""},
		"an istio-iptables that is told no ranges": {[]change{native, func(pod *corev1.Pod) {
			pod.Spec.InitContainers[0].Args, pod.Spec.InitContainers[0].Command = nil, []string{"istio-iptables"}
		}}, `Bypass: ` + args + `: Invalid value: "-i ": does not include`},
		"the mesh excludes our port by a variable":        {[]change{native, withEnv("ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE", "6379")}, `Bypass: ` + env + `: Invalid value: "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE 6379"`},
		"an argument hides the variable":                  {[]change{native, withArgs("-o", "80"), withEnv("ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE", "6379")}, ""},
		"the mesh excludes the pin's range":               {[]change{native, withArgs("-x", "240.0.0.0/4")}, `Bypass: ` + args + `: Invalid value: "-x 240.0.0.0/4"`},
		"the mesh includes other ranges":                  {[]change{native, withArgs("-i", "10.0.0.0/8")}, `Bypass: ` + args + `: Invalid value: "-i 10.0.0.0/8": does not include`},
		"the mesh includes other ranges, but our port":    {[]change{native, withArgs("-i", "10.0.0.0/8", "-q", "6379")}, ""},
		"the mesh excludes the pod's interface":           {[]change{native, withArgs("-c", "eth0")}, `Bypass: ` + args + `: Invalid value: "-c eth0"`},
		"an annotation is named rather than its argument": {[]change{native, annotated(excludeOutboundPorts, "6379"), withArgs("-o", "6379")}, `Bypass: metadata.annotations[traffic.sidecar.istio.io/excludeOutboundPorts]`},
		"without interception":                            {[]change{native, mode}, `Bypass: spec.initContainers[1].env[1]: Invalid value: "ISTIO_META_INTERCEPTION_MODE NONE"`},
		"an init container without interception":          {[]change{native, withArgs("-m", "NONE")}, `Bypass: ` + args + `: Invalid value: "-m NONE"`},
		"the app runs as the proxy's user":                {[]change{native, withArgs("-u", "2000"), userOf(2000)}, `Bypass: spec.containers[0].securityContext.runAsUser: Invalid value: "2000"`},
		"the app's group is the proxy's user's":           {[]change{native, withArgs("-u", "2000"), groupOf(2000)}, `Bypass: spec.containers[0].securityContext.runAsGroup: Invalid value: "2000"`},
		"the app's group is the proxy's":                  {[]change{native, withArgs("-u", "2000", "-g", "3000"), groupOf(3000)}, `Bypass: spec.containers[0].securityContext.runAsGroup`},
		"the proxy has a group of its own":                {[]change{native, withArgs("-u", "2000", "-g", "3000"), groupOf(2000)}, ""},
		"the app runs as the injected proxy, istio-cni":   {[]change{native, proxyRunsAs(2000), userOf(2000)}, `Bypass: spec.containers[0].securityContext.runAsUser`},
		"root is not the proxy, even if that is root":     {[]change{native, proxyRunsAs(0), userOf(0)}, ""},
		"groups left out by a variable":                   {[]change{native, withEnv(ownerGroupsExclude, "2000"), groupOf(2000)}, `Bypass: ` + env},
	} {
		t.Run(name, func(t *testing.T) {
			problems, _ := Obstacles(newPod(test.changes...), meshed, one())
			wantProblems(t, strings.FieldsFunc(test.problem, func(r rune) bool { return r == '\n' }), problems)
		})
	}
}

func userOf(uid int64) change {
	return func(pod *corev1.Pod) { pod.Spec.Containers[0].SecurityContext = runsAs(&uid, nil) }
}

func proxyRunsAs(uid int64) change {
	return func(pod *corev1.Pod) { pod.Spec.InitContainers[1].SecurityContext = runsAs(&uid, nil) }
}

func TestAppsThatRunAsTheProxy(t *testing.T) {
	podWide := func(uid, gid *int64) change {
		return func(pod *corev1.Pod) {
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: uid, RunAsGroup: gid, FSGroup: ptr.To[int64](1337)}
		}
	}
	id, other := ptr.To[int64](1337), ptr.To[int64](1000)
	for name, test := range map[string]struct {
		changes  []change
		problems []string
	}{
		"a container":         {[]change{userOf(1337)}, []string{`Bypass: spec.containers[0].securityContext.runAsUser: Invalid value: "1337": container "app" runs as the user of istio-proxy`}},
		"a container's group": {[]change{groupOf(1337)}, []string{`Bypass: spec.containers[0].securityContext.runAsGroup: Invalid value: "1337": container "app" runs as the group`}},
		"an init container":   {[]change{initContainer(corev1.Container{Name: "migrate", SecurityContext: runsAs(id, nil)})}, []string{`Bypass: spec.initContainers[0].securityContext.runAsUser`}},
		"the pod":             {[]change{podWide(id, nil)}, []string{`Bypass: spec.securityContext.runAsUser: Invalid value: "1337": container "app"`}},
		"the pod's group":     {[]change{podWide(nil, id)}, []string{`Bypass: spec.securityContext.runAsGroup`}},
		"the pod, its container as somebody else":                     {[]change{podWide(id, id), func(p *corev1.Pod) { p.Spec.Containers[0].SecurityContext = runsAs(other, other) }}, nil},
		"the pod as somebody else, its container":                     {[]change{podWide(other, nil), userOf(1337)}, []string{`Bypass: spec.containers[0].securityContext.runAsUser`}},
		"a container that sets only the group":                        {[]change{podWide(id, nil), groupOf(1000)}, []string{`Bypass: spec.securityContext.runAsUser`}},
		"two containers":                                              {[]change{userOf(1337), appContainer(corev1.Container{Name: "b", SecurityContext: runsAs(nil, id)})}, []string{`Bypass: spec.containers[0]`, `Bypass: spec.containers[1].securityContext.runAsGroup`}},
		"the volumes' group does not matter":                          {[]change{podWide(nil, nil)}, nil},
		"somebody else, beside a sidecar that does not say who it is": {[]change{native, podWide(other, other)}, nil},
		"somebody else":                                               {[]change{podWide(other, other)}, nil},
		"Istio's own containers may":                                  {[]change{native, proxyRunsAs(1337), initContainer(corev1.Container{Name: istioValidation, SecurityContext: runsAs(id, id)}), initContainer(corev1.Container{Name: istioCoreDump, SecurityContext: runsAs(id, id)})}, nil},
		"an app named like Istio's init container":                    {[]change{appContainer(corev1.Container{Name: istioInit, SecurityContext: runsAs(id, nil)})}, []string{`Bypass: spec.containers[1]`}},
		"a placeholder with the app's user":                           {[]change{userOf(1000), appContainer(corev1.Container{Name: istioProxy, SecurityContext: runsAs(other, nil)})}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			problems, _ := Obstacles(newPod(test.changes...), meshed, one())
			wantProblems(t, test.problems, problems)
		})
	}
}
