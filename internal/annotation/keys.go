package annotation

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Scope says where a key may stand.
type Scope string

// The scopes.
const (
	// ScopeInstance: once for each Redis; on the pod, its namespace and in the Helm defaults.
	ScopeInstance Scope = "instance"
	// ScopePod: once for the pod; on the pod, its namespace and in the Helm defaults.
	ScopePod Scope = "pod"
	// ScopePodOnly: once, on the pod alone.
	ScopePodOnly Scope = "pod only"
)

// Value is one of the values of a key that has a closed set of them.
type Value struct {
	Name string
	// Supported is false for what this release refuses with "not supported yet".
	Supported bool
}

// Key is a row of the table of annotation keys.
type Key struct {
	// Name is the part after the prefix.
	Name  string
	Scope Scope
	// Default is what holds where the key is absent or empty, in words where it is no constant.
	Default string
	// Description is for the user, in Markdown.
	Description string
	// Values is the closed set of values, nil where there is none. A parser sees only these then.
	Values []Value
	// parse reads a trimmed, not empty value of bounded length; nil where nothing follows from a value.
	parse func(d *draft, path *field.Path, value string) field.ErrorList
}

// keys is the table. Parsing, inheritance, warnings, docs/annotations.md and tests are driven by it.
var keys = []Key{
	{
		Name: "host", Scope: ScopeInstance, Default: "synthesised from `addresses`", parse: parseHost,
		Description: "DNS name of the Redis, written as the app dials it: in lower case, without a dot at the end; beside `addresses` it need not exist in DNS (`redis.memorystore-redis`)",
	},
	{
		Name: "port", Scope: ScopeInstance, Default: "`6379`, with protocol `http` `80`", parse: parsePort,
		Description: "port(s) the app dials, comma list (`6379,26379`)",
	},
	{
		Name: "target-port", Scope: ScopeInstance, Default: "= `port`, with protocol `http` `443`", parse: parseTargetPort,
		Description: "the TLS port of the server, where it differs (Azure: 6379 → 6380); needs a `host` and a single `port`; cannot go with several addresses or a CIDR",
	},
	{
		Name: "passthrough-ports", Scope: ScopeInstance, Default: "`target-port` where it differs, with protocol `http` `443` too", parse: parsePassthrough,
		Description: "further ports of a pinned host that containers of this pod dial with TLS of their own (an exporter), comma list",
	},
	{
		Name: "addresses", Scope: ScopeInstance, Default: "the `host` is asked of DNS", parse: parseAddresses,
		Description: "the server's addresses, comma list of IPs and CIDRs. One IP: a static endpoint (Memorystore). Several IPs or a CIDR: the node that the client dialled is the node it gets (primary and replica, Redis Cluster, Sentinel)",
	},
	{
		Name: "ca-secret", Scope: ScopeInstance, Default: "the proxy's system roots", parse: parseCASecret,
		Description: "Secret in the pod's namespace that holds the CA bundle (several PEM blocks are fine: CA rotation)",
	},
	{
		Name: "ca-configmap", Scope: ScopeInstance, parse: parseCAConfigMap,
		Description: "ConfigMap in the pod's namespace that holds the CA bundle, as trust-manager writes it; in place of `ca-secret`",
	},
	{
		Name: "ca-key", Scope: ScopeInstance, Default: "`ca.crt`", parse: parseCAKey,
		Description: "key of the bundle; needs `ca-secret`, `ca-configmap` or `client-secret`",
	},
	{
		Name: "mode", Scope: ScopeInstance, Default: "`simple`", parse: parseMode,
		Values:      []Value{{"simple", true}, {"mutual", true}, {"istio-mutual", true}},
		Description: "how TLS is originated; `mutual` shows the server a client certificate, of `client-secret`, `issuer` or `certificate`; `istio-mutual` is the mesh's own, to a Service of the mesh by any of its names in `host`",
	},
	{
		Name: "client-secret", Scope: ScopeInstance, parse: parseClientSecret,
		Description: "`kubernetes.io/tls` Secret in the pod's namespace with the client certificate (`tls.crt`, `tls.key`), for mode `mutual`; the CA bundle is its `ca-key` too, unless `ca-secret` or `ca-configmap` names another place",
	},
	{
		Name: "issuer", Scope: ScopeInstance, parse: parseIssuer,
		Description: "cert-manager issuer that signs a client certificate for the pod's service account, for mode `mutual`, with nothing else to do; the CA bundle is its `ca.crt`, unless `ca-secret` or `ca-configmap` names another place",
	},
	{
		Name: "issuer-kind", Scope: ScopeInstance, Default: "`Issuer`", parse: parseIssuerKind,
		Description: "kind of the `issuer`. What is not an `Issuer` of the pod's namespace needs the cluster's leave (`policy.allowedIssuers`)",
	},
	{
		Name: "issuer-group", Scope: ScopeInstance, Default: "`cert-manager.io`", parse: parseIssuerGroup,
		Description: "API group of the `issuer`",
	},
	{
		Name: "certificate", Scope: ScopeInstance, parse: parseCertificate,
		Description: "an existing cert-manager Certificate in the pod's namespace; its Secret gives client certificate and CA, in place of `client-secret`",
	},
	{
		Name: "sni", Scope: ScopeInstance, Default: "= `host` when it is resolved by DNS", parse: parseSNI,
		Description: "server name sent in the TLS handshake",
	},
	{
		Name: "subject-alt-names", Scope: ScopeInstance, Default: "= `host` when it is resolved by DNS", parse: parseSubjectAltNames,
		Description: "what the server's certificate must carry one of: DNS names, IPs or URIs, comma list. With system roots and `addresses` it must be given: any public certificate of anybody would do",
	},
	{
		Name: "insecure-skip-verify", Scope: ScopeInstance, Default: "`false`", parse: parseInsecure,
		Values:      []Value{{"false", true}, {"true", true}},
		Description: "believe any certificate; warned about each time, and refused unless the cluster's policy allows it (`policy.allowInsecure`)",
	},
	{
		Name: "delivery", Scope: ScopeInstance, Default: "`mount`", parse: parseDelivery,
		Values:      []Value{{"mount", true}, {"sds", true}},
		Description: "how CA bundle and client certificate reach the sidecar: a mounted volume, or `sds`, Istio's secret discovery (`credentialName` of the rule), which mounts nothing. It reads the bundle under `cacert` or `ca.crt`; for a client certificate Istio demands that the pod's service account may list all Secrets of the namespace, which redis-tls grants nobody",
	},
	{
		Name: "protocol", Scope: ScopeInstance, Default: "`tcp`", parse: parseProtocol,
		Values: []Value{{"tcp", true}, {"http", true}, {"http2", false}, {"grpc", false},
			{"mongo", true}, {"mysql", true}, {"redis", true}},
		Description: "the Istio port protocol. `http` has the sidecar route by the Host header, with Istio's telemetry and retries: the app calls `http://host`, its own HTTPS on 443 passes, and the plain calls of other pods stay plain",
	},
	{
		Name: "connect-timeout", Scope: ScopeInstance, Default: "Istio's", parse: parseConnectTimeout,
		Description: "`connectionPool.tcp.connectTimeout` of the rule, as in `3s`",
	},
	{
		Name: "idle-timeout", Scope: ScopeInstance, Default: "Istio's", parse: parseIdleTimeout,
		Description: "`connectionPool.tcp.idleTimeout` of the rule, as in `24h`; `0s` is never (Envoy closes idle TCP after an hour; a cloud's load balancer often sooner)",
	},
	{
		Name: "tcp-keepalive", Scope: ScopeInstance, Default: "Istio's", parse: parseKeepalive,
		Description: "`connectionPool.tcp.tcpKeepalive` of the rule: any of `time`, `interval` and `probes`, as in `time=300s,interval=30s,probes=5`",
	},
	{
		Name: "sidecar", Scope: ScopePod, parse: parseSidecar, Values: []Value{{"restrict", true}},
		Description: "`restrict`: a Sidecar resource of ours for the pod limits its egress to istio-system and its hosts, `REGISTRY_ONLY`: whatever else it dials cannot be reached",
	},
	{
		Name: "server", Scope: ScopePodOnly, parse: parseServer, Values: []Value{{"strict", true}},
		Description: "on a Redis *server* pod in the mesh, `strict`: a PeerAuthentication STRICT of ours, so that its sidecar lets in the mesh's mutual TLS alone",
	},
	{
		Name: "inject", Scope: ScopePodOnly, Default: "`true`",
		Values:      []Value{{"true", true}, {"false", true}},
		Description: "`\"false\"`, as label or annotation, opts the pod out",
	},
	{
		Name: "status", Scope: ScopePodOnly,
		Description: "written by the webhook: what the pod requested, JSON, with the format's version; a user's own value is replaced",
	},
	{
		Name: "vips", Scope: ScopePodOnly,
		Description: "written by the webhook: the VIP of each pinned host, `host=address`, comma list; a user's own value is replaced",
	},
	{
		Name: "first-use", Scope: ScopePodOnly,
		Description: "written by the webhook: the time of an admission before the mesh objects were there; a user's own value is replaced",
	},
}

// Keys returns a copy of the table, in the order of the reference page.
func Keys() []Key { return slices.Clone(keys) }

// keyIndex finds a row by its name.
var keyIndex = func() map[string]*Key {
	index := make(map[string]*Key, len(keys))
	for i := range keys {
		index[keys[i].Name] = &keys[i]
	}
	return index
}()

// domain is what stands before the slash of a key without instance.
const domain = "redis-tls"

// splitKey takes an annotation key apart; ours is false for a key that is not one of redis-tls, in whatever case it
// is written (see misspelt).
func splitKey(key string) (instance, name string, ours bool) {
	prefix, name, found := strings.Cut(key, "/")
	if !found || len(prefix) < len(domain) || !strings.EqualFold(prefix[len(prefix)-len(domain):], domain) {
		return "", "", false
	}
	if prefix = prefix[:len(prefix)-len(domain)]; prefix == "" {
		return origination.DefaultInstance, name, true
	}
	instance, found = strings.CutSuffix(prefix, ".")
	return instance, name, found
}

// misspelt reports whether the key of redis-tls has capitals before its slash.
func misspelt(key string) bool {
	prefix, _, _ := strings.Cut(key, "/")
	return !strings.HasSuffix(prefix, domain)
}

// Requested reports whether the annotations carry any key of ours other than inject and what the webhook writes, known or
// not, whatever its value: such a pod requests for itself instead of inheriting.
func Requested(annotations map[string]string) bool {
	for key := range annotations {
		if _, _, ours := splitKey(key); ours && key != origination.KeyInject && !slices.Contains(origination.OurAnnotations, key) {
			return true
		}
	}
	return false
}

// instanceProblem says why the name cannot be an instance's, or returns "".
func instanceProblem(instance string) string {
	if len(validation.IsDNS1123Label(instance)) == 0 {
		return ""
	}
	return "the part before \"." + origination.Prefix + "\" names a Redis of yours and must be a DNS label: " +
		"lower-case letters, digits and '-', at most 63 characters, as in \"sessions." + origination.Prefix + "host\""
}
