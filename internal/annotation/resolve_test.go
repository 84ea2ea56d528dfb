package annotation

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/internal/config"
)

const podKey = "metadata.annotations[redis-tls/"

func TestWrongValuesAreRefusedWithKeyValueAndRule(t *testing.T) {
	const host = "redis-tls/host"
	for _, test := range []struct {
		name string
		in   Input
		want []string
	}{
		{"no number", pod(host, "a.example.com", "redis-tls/port", "redis"),
			[]string{podKey + `port]: Invalid value: "redis": must be a port number from 1 to 65535, as in "6379"`}},
		{"numbers in odd notation, each said", pod(host, "a.example.com", "redis-tls/port", "+6379,06379,0,65536,-1,6379.0,0x18eb"), []string{
			podKey + `port]: Invalid value: "+6379": must be a port number from 1 to 65535, as in "6379"`,
			podKey + `port]: Invalid value: "06379": must be a port number from 1 to 65535, as in "6379"`,
			podKey + `port]: Invalid value: "0": must be a port number from 1 to 65535, as in "6379"`,
			podKey + `port]: Invalid value: "65536": must be a port number from 1 to 65535, as in "6379"`,
			podKey + `port]: Invalid value: "-1": must be a port number from 1 to 65535, as in "6379"`,
			podKey + `port]: Invalid value: "6379.0": must be a port number from 1 to 65535, as in "6379"`,
			podKey + `port]: Invalid value: "0x18eb": must be a port number from 1 to 65535, as in "6379"`,
		}},
		{"an empty element", pod(host, "a.example.com", "redis-tls/port", "6379,"),
			[]string{podKey + `port]: Invalid value: "6379,": has an empty element; write ports as in "6379,26379"`}},
		{"a port passed through that the sidecar keeps", pod(host, "a.example.com", "redis-tls/passthrough-ports", "15090"),
			[]string{podKey + `passthrough-ports]: Invalid value: "15090": is a port of the sidecar itself, which nothing can be dialled on; choose another one`}},
		{"several target ports", pod(host, "a.example.com", "redis-tls/target-port", "6380,6381"),
			[]string{podKey + `target-port]: Invalid value: "6380,6381": must be a port number from 1 to 65535, as in "6379"`}},
		{"a target port for several ports", pod(host, "a.example.com", "redis-tls/port", "6379,26379", "redis-tls/target-port", "6380"),
			[]string{podKey + `target-port]: Invalid value: "6380": goes with a single port, and redis-tls/port has several; give each an instance of its own on the same host, as in "sentinel.redis-tls/port"`}},
		{"a target port without a host", pod("redis-tls/addresses", "10.0.0.3", "redis-tls/ca-secret", "ca", "redis-tls/target-port", "6380"),
			[]string{podKey + `target-port]: Invalid value: "6380": needs the name that the app dials in redis-tls/host: the address itself cannot lead to another port for this pod alone; or dial the TLS port, by redis-tls/port`}},
		{"a target port with several addresses", pod(host, "a.example.com", "redis-tls/addresses", "10.0.0.3,10.0.0.4", "redis-tls/ca-secret", "ca", "redis-tls/target-port", "6380"),
			[]string{podKey + `target-port]: Invalid value: "6380": cannot go with several addresses or a CIDR: the app dials the nodes themselves; give their TLS port in redis-tls/port`}},
		{"passthrough without a pin", pod("redis-tls/addresses", "10.0.0.3", "redis-tls/ca-secret", "ca", "redis-tls/passthrough-ports", "9121"),
			[]string{podKey + `passthrough-ports]: Invalid value: "9121": goes with a pinned host: one with a name, asked of DNS or beside a single address in redis-tls/addresses; where the app dials addresses, other ports pass anyway`}},
		{"a port with TLS and passed through", pod(host, "a.example.com", "redis-tls/port", "6379,9121", "redis-tls/passthrough-ports", "9121"),
			[]string{podKey + `passthrough-ports]: Invalid value: "9121": has port 9121, which redis-tls/port gives TLS; name it in one of the two`}},
		{"a key of no object", pod(host, "a.example.com", "redis-tls/ca-key", "ca.pem"),
			[]string{podKey + `ca-key]: Invalid value: "ca.pem": is a key of no object; name the Secret in redis-tls/ca-secret or the ConfigMap in redis-tls/ca-configmap, or leave this out for the system roots`}},
		{"names that are no Secret's", pod(host, "a.example.com", "redis-tls/ca-secret", "Redis_CA", "redis-tls/ca-key", "../ca.crt"), []string{
			podKey + `ca-secret]: Invalid value: "Redis_CA": is not the name of a Secret: lower-case letters, digits, '-' and '.', at most 253 characters, as in "redis-ca"`,
			podKey + `ca-key]: Invalid value: "../ca.crt": is not a key of a Secret or ConfigMap: letters, digits, '-', '_' and '.', at most 253 characters, as in "ca.crt"`,
		}},
		{"system roots and no name to check", pod("redis-tls/addresses", "10.0.0.3"),
			[]string{podKey + `subject-alt-names]: Required value: with the system roots and addresses any public certificate of anybody would be believed; give the name in the server's certificate, or its CA in redis-tls/ca-secret`}},
		{"an address as server name", pod(host, "a.example.com", "redis-tls/sni", "10.0.0.3"),
			[]string{podKey + `sni]: Invalid value: "10.0.0.3": is an address, not a name; TLS sends no address as server name (RFC 6066); give a DNS name, as in "redis.example.com"`}},
		{"a wildcard as name to check", pod(host, "a.example.com", "redis-tls/subject-alt-names", "a.example.com,*.example.com"),
			[]string{podKey + `subject-alt-names]: Invalid value: "*.example.com": is a wildcard; name one concrete host that the certificate covers, as in "redis.example.com"`}},
		{"a mode that there is not", pod(host, "a.example.com", "redis-tls/mode", "SIMPLE"),
			[]string{podKey + `mode]: Unsupported value: "SIMPLE": supported values: "simple", "mutual", "istio-mutual"`}},
		{"another word for a key of the pod", pod("redis-tls/server", "permissive"),
			[]string{podKey + `server]: Unsupported value: "permissive": supported values: "strict"`}},
		{"a restriction to nothing", pod("redis-tls/sidecar", "restrict"),
			[]string{podKey + `sidecar]: Invalid value: "restrict": limits the pod to its Redises, and it asks for none; give one in redis-tls/host, or remove this`}},
		{"a server that is restricted to nothing", pod("redis-tls/sidecar", "restrict", "redis-tls/server", "strict"),
			[]string{podKey + `sidecar]: Invalid value: "restrict": limits the pod to its Redises, and it asks for none; give one in redis-tls/host, or remove this`}},
		{"all problems at once, also of several instances", pod(host, "localhost", "redis-tls/port", "x", "sessions.redis-tls/port", "6380", "sessions.redis-tls/mode", "y"), []string{
			podKey + `host]: Invalid value: "localhost": is this machine itself, which needs no TLS; give the name of a Redis outside the cluster`,
			podKey + `port]: Invalid value: "x": must be a port number from 1 to 65535, as in "6379"`,
			`metadata.annotations[sessions.redis-tls/mode]: Unsupported value: "y": supported values: "simple", "mutual", "istio-mutual"`,
			`metadata.annotations[sessions.redis-tls/host]: Required value: the pod carries sessions.redis-tls/mode, sessions.redis-tls/port, so give the name of the Redis here, or its addresses in sessions.redis-tls/addresses`,
		}},
		{"a typo in the only key", pod("redis-tls/hots", "a.example.com"),
			[]string{podKey + `hots]: Invalid value: "a.example.com": there is no such key; did you mean "redis-tls/host"?`}},
		{"a key in both its spellings", pod(host, "a.example.com", "default.redis-tls/host", "b.example.com"),
			[]string{podKey + `host]: Invalid value: "a.example.com": is the same as metadata.annotations[default.redis-tls/host], which stands beside it; remove one of the two`}},
		{"a name that cannot be an instance's", pod("a.b.redis-tls/host", "a.example.com", "Sessions.redis-tls/host", "a.example.com", ".redis-tls/host", "a.example.com"), []string{
			`metadata.annotations[.redis-tls/host]: Invalid value: ".redis-tls/": ` + instanceProblem(""),
			`metadata.annotations[Sessions.redis-tls/host]: Invalid value: "Sessions.redis-tls/": ` + instanceProblem("S"),
			`metadata.annotations[a.b.redis-tls/host]: Invalid value: "a.b.redis-tls/": the part before ".redis-tls/" names a Redis of yours and must be a DNS label: lower-case letters, digits and '-', at most 63 characters, as in "sessions.redis-tls/host"`,
		}},
		{"a value of inject that is neither", Input{Labels: map[string]string{"redis-tls/inject": "no"}, Annotations: map[string]string{"redis-tls/inject": "False"}}, []string{
			`metadata.labels[redis-tls/inject]: Unsupported value: "no": supported values: "true", "false"`,
			`metadata.annotations[redis-tls/inject]: Unsupported value: "False": supported values: "true", "false"`,
		}},
		{"an opt-out beside a wrong one is no opt-out", Input{Labels: map[string]string{"redis-tls/inject": "false"}, Annotations: map[string]string{"redis-tls/inject": ""}},
			[]string{`metadata.annotations[redis-tls/inject]: Unsupported value: "": supported values: "true", "false"`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			wantErrors(t, Resolve(test.in, config.Default(), cluster), test.want...)
		})
	}
}

func TestEveryPortOfTheSidecarIsRefused(t *testing.T) {
	for _, port := range []string{"15000", "15001", "15004", "15006", "15008", "15009", "15020", "15021", "15053", "15090"} {
		res := Resolve(pod("redis-tls/host", "a.example.com", "redis-tls/port", port), config.Default(), cluster)
		wantErrors(t, res, podKey+`port]: Invalid value: "`+port+`": is a port of the sidecar itself, which nothing can be dialled on; choose another one`)
	}
	mustResolve(t, pod("redis-tls/host", "a.example.com", "redis-tls/port", "15002,15091"), config.Default())
}

func TestSizesAreBoundBeforeAnythingIsParsed(t *testing.T) {
	repeat := func(format string, n int) string {
		texts := make([]string, n)
		for i := range texts {
			texts[i] = fmt.Sprintf(format, i+1)
		}
		return strings.Join(texts, ",")
	}
	many := func(n int) Input {
		in := pod()
		for i := range n {
			in.Annotations[fmt.Sprintf("r%d.redis-tls/host", i)] = fmt.Sprintf("r%d.example.com", i)
		}
		return in
	}
	sized := func(size int) Input {
		in := pod("redis-tls/host", "a.example.com", "b", "")
		in.Annotations["b"] = strings.Repeat("x", size-len("redis-tls/host")-len("a.example.com")-len("b"))
		return in
	}
	unknown := func(n int) Input {
		in := inherit("redis-tls/host", "a.example.com")
		for i := range n - 1 {
			in.NamespaceAnnotations[fmt.Sprintf("redis-tls/x%d", i)] = ""
		}
		return in
	}
	manyUnknown := pod("redis-tls/host", "a.example.com")
	for i := range 512 {
		manyUnknown.Annotations[fmt.Sprintf("redis-tls/x%d", i)] = ""
	}
	for _, test := range []struct {
		name      string
		most, one Input
		want      string
	}{
		{"bytes", pod("redis-tls/host", "a.example.com"+strings.Repeat(" ", 8192-13)), pod("redis-tls/host", "a.example.com"+strings.Repeat(" ", 8193-13)),
			podKey + `host]: Too long: may not be more than 8192 bytes`},
		{"annotations", sized(262144), sized(262145),
			`metadata.annotations: Too long: keys and values have 262145 bytes together; Kubernetes takes at most 262144`},
		{"keys", unknown(512), unknown(513),
			`namespace.metadata.annotations: Too many: 513: must have at most 512 items of the keys below redis-tls/; see the table of keys for those that there are`},
		{"keys of the pod, of which there are not that many", pod("redis-tls/host", "a.example.com"), manyUnknown,
			`metadata.annotations: Too many: 513: must have at most 512 items of the keys below redis-tls/; see the table of keys for those that there are`},
		{"ports", pod("redis-tls/host", "a.example.com", "redis-tls/port", repeat("%d", 16)), pod("redis-tls/host", "a.example.com", "redis-tls/port", repeat("%d", 17)),
			podKey + `port]: Too many: 17: must have at most 16 items`},
		{"addresses", pod("redis-tls/addresses", repeat("10.0.0.%d", 64), "redis-tls/ca-secret", "ca"), pod("redis-tls/addresses", repeat("10.0.0.%d", 65), "redis-tls/ca-secret", "ca"),
			podKey + `addresses]: Too many: 65: must have at most 64 items`},
		{"names", pod("redis-tls/host", "a.example.com", "redis-tls/subject-alt-names", repeat("a%d.example.com", 32)), pod("redis-tls/host", "a.example.com", "redis-tls/subject-alt-names", repeat("a%d.example.com", 33)),
			podKey + `subject-alt-names]: Too many: 33: must have at most 32 items`},
		{"instances", many(16), many(17),
			`metadata.annotations: Too many: 17: must have at most 16 items: one for each <name>.redis-tls/host; split the pod, or ask for fewer`},
	} {
		t.Run(test.name, func(t *testing.T) {
			mustResolve(t, test.most, config.Default())
			wantErrors(t, Resolve(test.one, config.Default(), cluster), test.want)
		})
	}
}

func TestMessagesRepeatNoMoreThanABitOfAHugeValue(t *testing.T) {
	huge := []string{"redis-tls/host", strings.Repeat("ä_", 2000), strings.Repeat("a", 5000) + ".redis-tls/" + strings.Repeat("b", 5000), strings.Repeat("ü", 2000),
		strings.Repeat("A", 5000) + ".Redis-TLS/" + strings.Repeat("b", 5000), strings.Repeat("ü", 2000)}
	in := inherit(huge...)
	in.Annotations = keysAndValues(huge...)
	res := Resolve(in, config.Default(), cluster)
	for _, err := range res.Errors {
		if n := len(err.Error()); n > 1200 {
			t.Errorf("%d bytes: %s", n, err)
		}
	}
	for _, w := range res.Warnings {
		if len(w) > 400 {
			t.Errorf("%d bytes: %s", len(w), w)
		}
	}
	if len(res.Errors) != 3 || len(res.Warnings) != 2 {
		t.Errorf("%d errors and %d warnings", len(res.Errors), len(res.Warnings))
	}
}

func TestThePolicyDeniesByTypeAndNamesItself(t *testing.T) {
	cfg := config.Default()
	cfg.Policy.AllowedHosts = []string{"redis.example.com", "*.Aivencloud.com"}
	cfg.Policy.AllowedCIDRs = prefixes("10.0.0.0/24", "192.168.1.0/24")
	cfg.Policy.AllowedPorts = []string{"6379", "6400-6410"}
	for _, test := range []struct {
		name string
		in   Input
		want []string
	}{
		{"an exact host", pod("redis-tls/host", "redis.example.com"), nil},
		{"a host below", pod("redis-tls/host", "a.b.aivencloud.com", "redis-tls/port", "6400,6410"), nil},
		{"a range within", pod("redis-tls/addresses", "10.0.0.16/28,192.168.1.4", "redis-tls/ca-secret", "ca"), nil},
		{"the domain itself is not below", pod("redis-tls/host", "aivencloud.com"), []string{
			podKey + `host]: Forbidden: "aivencloud.com" is not among the hosts that this cluster allows (policy.allowedHosts): redis.example.com, *.Aivencloud.com; choose one of these, or ask the cluster's administrator`}},
		{"a host that ends alike", pod("redis-tls/host", "evilaivencloud.com"), []string{
			podKey + `host]: Forbidden: "evilaivencloud.com" is not among the hosts that this cluster allows (policy.allowedHosts): redis.example.com, *.Aivencloud.com; choose one of these, or ask the cluster's administrator`}},
		{"a wider range and another address", pod("redis-tls/addresses", "10.0.0.0/23,192.168.2.1", "redis-tls/ca-secret", "ca"), []string{
			podKey + `addresses]: Forbidden: "10.0.0.0/23" is not among the ranges that this cluster allows (policy.allowedCIDRs): 10.0.0.0/24 192.168.1.0/24; choose one of these, or ask the cluster's administrator`,
			podKey + `addresses]: Forbidden: "192.168.2.1" is not among the ranges that this cluster allows (policy.allowedCIDRs): 10.0.0.0/24 192.168.1.0/24; choose one of these, or ask the cluster's administrator`}},
		{"the server's port counts, not the dialled one", pod("redis-tls/host", "redis.example.com", "redis-tls/port", "1", "redis-tls/target-port", "6379"), nil},
		{"another port, target and passed through", pod("redis-tls/host", "redis.example.com", "redis-tls/target-port", "6411", "redis-tls/passthrough-ports", "22"), []string{
			podKey + `target-port]: Forbidden: "6411" is not among the ports that this cluster allows (policy.allowedPorts): 6379, 6400-6410; choose one of these, or ask the cluster's administrator`,
			podKey + `passthrough-ports]: Forbidden: "22" is not among the ports that this cluster allows (policy.allowedPorts): 6379, 6400-6410; choose one of these, or ask the cluster's administrator`}},
		{"a port by name of its key", pod("redis-tls/host", "redis.example.com", "redis-tls/port", "6380"), []string{
			podKey + `port]: Forbidden: "6380" is not among the ports that this cluster allows (policy.allowedPorts): 6379, 6400-6410; choose one of these, or ask the cluster's administrator`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := Resolve(test.in, cfg, cluster)
			wantErrors(t, res, test.want...)
			for _, err := range res.Errors {
				if err.Type != "FieldValueForbidden" {
					t.Errorf("%v is of type %s", err, err.Type)
				}
			}
		})
	}
}
