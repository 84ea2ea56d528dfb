package annotation

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Scope says where a key is allowed.
type Scope string

// The scopes.
const (
	// ScopeInstance: once for each Redis; on the pod, its namespace and in the Helm defaults.
	ScopeInstance Scope = "instance"
	// ScopePod: once for the pod; on the pod, its namespace and in the Helm defaults.
	ScopePod Scope = "pod"
	// ScopePodOnly: once, only on the pod.
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
	// Default is the value if the key is absent or empty, in words if it is no constant.
	Default string
	// Description is for the user, in Markdown.
	Description string
	// Example is a value. It is empty for a key that only the webhook writes.
	Example string
	// Values is the closed set of values, nil if there is none. The parser then reads only these.
	Values []Value
	// parse reads a trimmed value that is not empty and not too long; nil if the value has no effect.
	parse func(d *draft, path *field.Path, value string) field.ErrorList
}

// keys is the table. Parsing, inheritance, warnings, docs/annotations.md and tests are driven by it.
var keys = []Key{
	{
		Name: "host", Scope: ScopeInstance, Default: "derived from `addresses`", parse: parseHost,
		Example: "redis.example.com",
		Description: "DNS name of the Redis, as the app dials it: in lower case, without a dot at the end. With " +
			"`addresses` it does not have to exist in DNS (`redis.memorystore-redis`). It may be a Service of the cluster or " +
			"a pod of one, in any form (`redis`, `redis.data`, `redis.data.svc`). The app may then dial every form.",
	},
	{
		Name: "nodes", Scope: ScopeInstance, parse: parseNodes,
		Example: "redis-{0..2}.example.com",
		Description: "Further names that the server announces to its clients: nodes of a cluster, replicas. Comma list " +
			"with ranges (`redis-{0..2}.example.com`, `redis-{0..2}.redis`). They share the ports and TLS settings of the " +
			"`host`. The certificate may have any of these names.",
	},
	{
		Name: "port", Scope: ScopeInstance, Default: "`6379`, with protocol `http` `80`", parse: parsePort,
		Example:     "6379,8500-8599",
		Description: "Ports that the app dials, comma list with ranges (`6379,8500-8599`).",
	},
	{
		Name: "target-port", Scope: ScopeInstance, Default: "= `port`, with protocol `http` `443`", parse: parseTargetPort,
		Example: "6380",
		Description: "TLS port of the server, if it differs from `port` (Azure: 6379 → 6380). Requires a `host` and a " +
			"single `port`. Cannot be used with several addresses or a CIDR.",
	},
	{
		Name:    "passthrough-ports",
		Scope:   ScopeInstance,
		Default: "`target-port` if it differs, with protocol `http` also `443`",
		parse:   parsePassthrough,
		Example: "6380",
		Description: "Further ports of a host with a VIP, comma list. Containers of this pod dial them with their own " +
			"TLS, as an exporter does.",
	},
	{
		Name: "addresses", Scope: ScopeInstance, Default: "`host` is resolved by DNS", parse: parseAddresses,
		Example: "10.0.0.3",
		Description: "Addresses of the server, comma list of IPs and CIDRs. One IP is a static endpoint (Memorystore). " +
			"With several IPs or a CIDR, the client gets the node that it dials (primary and replica, Redis Cluster, Sentinel).",
	},
	{
		Name: "ca-secret", Scope: ScopeInstance, Default: "the proxy's system roots", parse: parseCASecret,
		Example: "redis-ca",
		Description: "Secret in the pod's namespace with the CA bundle. The bundle may have several PEM blocks, as during " +
			"a CA rotation. A Service of the cluster requires a CA, unless `subject-alt-names` is set.",
	},
	{
		Name: "ca-configmap", Scope: ScopeInstance, parse: parseCAConfigMap,
		Example: "redis-ca",
		Description: "ConfigMap in the pod's namespace with the CA bundle, as trust-manager writes it. Use it instead of " +
			"`ca-secret`.",
	},
	{
		Name: "ca-key", Scope: ScopeInstance, Default: "`ca.crt`", parse: parseCAKey,
		Example:     "ca.crt",
		Description: "Key of the CA bundle in its object. Requires `ca-secret`, `ca-configmap` or `client-secret`.",
	},
	{
		Name: "mode", Scope: ScopeInstance, Default: "`simple`", parse: parseMode,
		Values:  []Value{{"simple", true}, {"mutual", true}, {"istio-mutual", true}},
		Example: "mutual",
		Description: "How TLS is originated. `mutual` sends the server a client certificate, from `client-secret`, " +
			"`issuer` or `certificate`. Both also reach a Service whose server has TLS of its own. `istio-mutual` " +
			"uses the mesh's own TLS to a Service of the mesh, by any of its names in `host`.",
	},
	{
		Name: "client-secret", Scope: ScopeInstance, parse: parseClientSecret,
		Example: "redis-client",
		Description: "Secret of type `kubernetes.io/tls` in the pod's namespace with the client certificate (`tls.crt`, " +
			"`tls.key`), for mode `mutual`. Its `ca-key` is also the CA bundle, unless `ca-secret` or `ca-configmap` names " +
			"another object.",
	},
	{
		Name: "issuer", Scope: ScopeInstance, parse: parseIssuer,
		Example: "redis-ca",
		Description: "cert-manager issuer that signs a client certificate for the pod's service account, for mode " +
			"`mutual`. redis-tls creates the Certificate. Its `ca.crt` is also the CA bundle, unless `ca-secret` or " +
			"`ca-configmap` names another object.",
	},
	{
		Name: "issuer-kind", Scope: ScopeInstance, Default: "`Issuer`", parse: parseIssuerKind,
		Example: "ClusterIssuer",
		Description: "Kind of the `issuer`. Any other than an `Issuer` of the pod's namespace must be allowed by " +
			"`policy.allowedIssuers`.",
	},
	{
		Name: "issuer-group", Scope: ScopeInstance, Default: "`cert-manager.io`", parse: parseIssuerGroup,
		Example:     "awspca.cert-manager.io",
		Description: "API group of the `issuer`.",
	},
	{
		Name: "certificate", Scope: ScopeInstance, parse: parseCertificate,
		Example: "redis-client",
		Description: "Existing cert-manager Certificate in the pod's namespace. Its Secret has the client certificate and " +
			"the CA. Use it instead of `client-secret`. If its `usages` contain `server auth`, they must contain `client " +
			"auth` too.",
	},
	{
		Name: "sni", Scope: ScopeInstance, Default: "= `host` if it is resolved by DNS", parse: parseSNI,
		Example:     "redis.example.com",
		Description: "Server name that the TLS handshake sends.",
	},
	{
		Name:    "subject-alt-names",
		Scope:   ScopeInstance,
		Default: "= `host` and `nodes` if DNS resolves them",
		parse:   parseSubjectAltNames,
		Example: "redis.example.com,*.cache.example.com",
		Description: "Names of which the server's certificate must have one: DNS names, IPs or URIs, comma list. Required " +
			"with system roots and `addresses`: without it, any publicly trusted certificate is accepted. A concrete name " +
			"also matches a certificate with a wildcard. A wildcard (`*.example.com`) matches only a certificate with the " +
			"same wildcard. The default for a Service is its forms with a namespace.",
	},
	{
		Name: "insecure-skip-verify", Scope: ScopeInstance, Default: "`false`", parse: parseInsecure,
		Values:  []Value{{"false", true}, {"true", true}},
		Example: "true",
		Description: "`true` accepts any certificate. Refused unless `policy.allowInsecure` allows it. Each use gives a " +
			"warning.",
	},
	{
		Name: "delivery", Scope: ScopeInstance, Default: "`mount`", parse: parseDelivery,
		Values:  []Value{{"mount", true}, {"sds", true}},
		Example: "sds",
		Description: "How CA bundle and client certificate reach the sidecar. `mount` mounts a volume. `sds` uses Istio's " +
			"secret discovery (`credentialName` of the rule) and mounts nothing. It reads the CA bundle from the key " +
			"`cacert` or `ca.crt`. For a client certificate, Istio requires that the pod's service account may list all " +
			"Secrets of the namespace. redis-tls does not grant that.",
	},
	{
		Name: "protocol", Scope: ScopeInstance, Default: "`tcp`", parse: parseProtocol,
		Values: []Value{{"tcp", true}, {"http", true}, {"http2", false}, {"grpc", false},
			{"mongo", true}, {"redis", true}},
		Example: "http",
		Description: "Istio port protocol. With `http` the sidecar routes by the Host header, with Istio's telemetry and " +
			"retries. The app calls `http://host`; its own HTTPS on 443 passes through. Plain calls of other pods stay " +
			"plain. `redis` is the same as `tcp`, unless istiod has `PILOT_ENABLE_REDIS_FILTER`. Istio's filter then " +
			"refuses AUTH and follows no redirection of a cluster. MySQL and PostgreSQL cannot be used, because their TLS " +
			"begins inside their protocol.",
	},
	{
		Name: "connect-timeout", Scope: ScopeInstance, Default: "Istio's", parse: parseConnectTimeout,
		Example:     "3s",
		Description: "`connectionPool.tcp.connectTimeout` of the rule, as in `3s`.",
	},
	{
		Name: "idle-timeout", Scope: ScopeInstance, Default: "Istio's", parse: parseIdleTimeout,
		Example: "24h",
		Description: "`connectionPool.tcp.idleTimeout` of the rule, as in `24h`. `0s` is no timeout. Envoy closes idle " +
			"TCP connections after an hour; load balancers of clouds often do so earlier.",
	},
	{
		Name: "tcp-keepalive", Scope: ScopeInstance, Default: "Istio's", parse: parseKeepalive,
		Example: "time=300s,interval=30s,probes=5",
		Description: "`connectionPool.tcp.tcpKeepalive` of the rule: any of `time`, `interval` and `probes`, as in " +
			"`time=300s,interval=30s,probes=5`.",
	},
	{
		Name: "sidecar", Scope: ScopePod, parse: parseSidecar, Values: []Value{{"restrict", true}},
		Example: "restrict",
		Description: "`restrict` creates a Sidecar resource that limits the pod's egress to istio-system and its Redis " +
			"hosts (`REGISTRY_ONLY`). The pod cannot reach anything else.",
	},
	{
		Name: "server", Scope: ScopePodOnly, parse: parseServer, Values: []Value{{"strict", true}},
		Example: "strict",
		Description: "For a Redis *server* pod in the mesh. `strict` creates a PeerAuthentication of mode STRICT, so that " +
			"its sidecar accepts only mutual TLS of the mesh.",
	},
	{
		Name: "inject", Scope: ScopePodOnly, Default: "`true`",
		Values:      []Value{{"true", true}, {"false", true}},
		Example:     "false",
		Description: "`\"false\"`, as label or annotation, opts the pod out.",
	},
	{
		Name: "status", Scope: ScopePodOnly,
		Description: "Written by the webhook: the pod's request as JSON, with the version of the format. A user's own " +
			"value is replaced.",
	},
	{
		Name: "vips", Scope: ScopePodOnly,
		Description: "Written by the webhook: the VIP of each host that has one, `host=address`, comma list. A user's own " +
			"value is replaced.",
	},
	{
		Name: "first-use", Scope: ScopePodOnly,
		Description: "Written by the webhook: the time of an admission before the mesh objects existed. A user's own " +
			"value is replaced.",
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

// domain is the part before the slash of a key without instance.
const domain = "redis-tls"

// splitKey splits an annotation key; ok is false if its prefix is not one of redis-tls, in upper or lower case (see
// hasUpperCasePrefix).
func splitKey(key string) (instance, name string, ok bool) {
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

// hasUpperCasePrefix reports whether the key of redis-tls has capitals before its slash.
func hasUpperCasePrefix(key string) bool {
	prefix, _, _ := strings.Cut(key, "/")
	return !strings.HasSuffix(prefix, domain)
}

// Requested reports whether the annotations have a key with a prefix of redis-tls, known or not, with any value. Inject
// and the keys that the webhook writes do not count. Such a pod requests TLS, the others inherit.
func Requested(annotations map[string]string) bool {
	for key := range annotations {
		if _, _, ok := splitKey(key); ok && key != origination.KeyInject &&
			!slices.Contains(origination.WebhookAnnotations, key) {
			return true
		}
	}
	return false
}

// instanceProblem says why the name is not allowed for an instance, or returns "".
func instanceProblem(instance string) string {
	if len(validation.IsDNS1123Label(instance)) == 0 {
		return ""
	}
	return "must have a DNS label before \"." + origination.Prefix + "\": " +
		"lower-case letters, digits and '-', at most 63 characters, as in \"sessions." + origination.Prefix + "host\""
}
