package annotation

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

func TestInstancesOfOneHostAreMerged(t *testing.T) {
	merged := func(change func(*origination.Origination)) origination.Origination {
		return with(byDNS("a.example.com"), func(o *origination.Origination) { o.Instances = []string{"default", "other"}; change(o) })
	}
	for _, test := range []struct {
		name string
		in   Input
		want origination.Origination
	}{
		{"the union of their ports", pod("redis-tls/host", "a.example.com", "other.redis-tls/host", "a.example.com", "other.redis-tls/port", "26379,6379"),
			merged(func(o *origination.Origination) {
				o.Ports = []origination.Port{{Number: 6379, Target: 6379}, {Number: 26379, Target: 26379}}
			})},
		{"each port with its own target", pod("redis-tls/host", "a.example.com", "redis-tls/target-port", "6380", "other.redis-tls/host", "a.example.com", "other.redis-tls/port", "26379", "other.redis-tls/target-port", "26380"),
			merged(func(o *origination.Origination) {
				o.Ports, o.Passthrough = []origination.Port{{Number: 6379, Target: 6380}, {Number: 26379, Target: 26380}}, []int32{6380, 26380}
			})},
		{"an implied passthrough yields to TLS of the later instance", pod("redis-tls/host", "a.example.com", "redis-tls/target-port", "6380", "other.redis-tls/host", "a.example.com", "other.redis-tls/port", "6380"),
			merged(func(o *origination.Origination) {
				o.Ports = []origination.Port{{Number: 6379, Target: 6380}, {Number: 6380, Target: 6380}}
			})},
		{"an implied passthrough yields to TLS of the earlier instance", pod("other.redis-tls/host", "a.example.com", "other.redis-tls/target-port", "6380", "redis-tls/host", "a.example.com", "redis-tls/port", "6380"),
			merged(func(o *origination.Origination) {
				o.Ports = []origination.Port{{Number: 6379, Target: 6380}, {Number: 6380, Target: 6380}}
			})},
		{"the union of what is passed through", pod("redis-tls/host", "a.example.com", "redis-tls/passthrough-ports", "9121", "other.redis-tls/host", "a.example.com", "other.redis-tls/passthrough-ports", "9000,9121"),
			merged(func(o *origination.Origination) { o.Passthrough = []int32{9000, 9121} })},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := mustResolve(t, test.in, config.Default())
			if diff := cmp.Diff([]origination.Origination{test.want}, res.Originations, compareResults); diff != "" {
				t.Errorf("originations differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestInstancesOfOneHostMustAgree(t *testing.T) {
	messages := catalog.Open(t)
	hosts := func(pairs ...string) Input {
		return pod(append(pairs, "redis-tls/host", "a.example.com", "other.redis-tls/host", "a.example.com")...)
	}
	const other = "metadata.annotations[other.redis-tls/"
	for _, test := range []struct {
		name string
		in   Input
		want []string
	}{
		{"in the CA and its key", hosts("redis-tls/ca-secret", "one", "other.redis-tls/ca-secret", "two", "other.redis-tls/ca-key", "x"), []string{
			other + "ca-secret]: Invalid value",
			other + "ca-key]: Invalid value"}},
		{"in the server name", hosts("redis-tls/sni", "b.example.com"),
			[]string{other + "sni]: Invalid value"}},
		{"in the names to check", hosts("other.redis-tls/subject-alt-names", "b.example.com,c.example.com"),
			[]string{other + "subject-alt-names]: Invalid value"}},
		{"in mode and client certificate", hosts("redis-tls/mode", "mutual", "redis-tls/client-secret", "client", "redis-tls/ca-configmap", "trust", "other.redis-tls/ca-configmap", "trust"), []string{
			other + "mode]: Invalid value",
			other + "client-secret]: Invalid value"}},
		{"in the issuer of their certificates", hosts("redis-tls/mode", "mutual", "redis-tls/issuer", "one", "redis-tls/ca-secret", "ca", "other.redis-tls/mode", "mutual", "other.redis-tls/issuer", "two", "other.redis-tls/ca-secret", "ca"),
			[]string{other + "issuer]: Invalid value"}},
		{"in the delivery", hosts("redis-tls/ca-secret", "ca", "redis-tls/delivery", "sds", "other.redis-tls/ca-secret", "ca"),
			[]string{other + "delivery]: Invalid value"}},
		{"in the protocol and the connection settings", hosts("redis-tls/protocol", "redis", "redis-tls/connect-timeout", "3s", "other.redis-tls/idle-timeout", "0s", "redis-tls/tcp-keepalive", "probes=3"), []string{
			other + "protocol]: Invalid value",
			other + "connect-timeout]: Invalid value",
			other + "idle-timeout]: Invalid value",
			other + "tcp-keepalive]: Invalid value"}},
		{"in the addresses", hosts("redis-tls/ca-secret", "ca", "other.redis-tls/ca-secret", "ca", "redis-tls/addresses", "10.0.0.3", "other.redis-tls/addresses", "10.0.0.0/28,10.1.0.1",
			"redis-tls/sni", "a.example.com", "other.redis-tls/sni", "a.example.com"),
			[]string{other + "addresses]: Invalid value"}},
		{"in the target of a port", hosts("redis-tls/target-port", "6380", "other.redis-tls/target-port", "6381"),
			[]string{other + "target-port]: Invalid value"}},
		{"on a port that one passes through", hosts("redis-tls/passthrough-ports", "9121", "other.redis-tls/port", "9121"),
			[]string{other + "port]: Invalid value"}},
		{"on a port that the other passes through", hosts("redis-tls/port", "9121", "other.redis-tls/passthrough-ports", "9121"),
			[]string{other + "passthrough-ports]: Invalid value"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := Resolve(test.in, config.Default(), cluster)
			wantErrors(t, res, test.want...)
			messages.Add(test.name, errorTexts(res.Errors)...)
		})
	}
}

func TestInstancesWithTheSameAddressAndPortAreRefused(t *testing.T) {
	messages := catalog.Open(t)
	clash := []string{"metadata.annotations[other.redis-tls/addresses]: Invalid value"}
	both := func(pairs ...string) Input {
		return pod(append(pairs, "redis-tls/ca-secret", "ca", "other.redis-tls/ca-secret", "other-ca")...)
	}
	for _, test := range []struct {
		name string
		in   Input
		want []string
	}{
		{"an address within the range of the other", both("redis-tls/addresses", "10.0.0.0/28", "other.redis-tls/addresses", "10.0.0.3"), clash},
		{"ranges that overlap", both("redis-tls/addresses", "10.0.0.0/24", "other.redis-tls/addresses", "10.1.0.1,10.0.0.0/28", "other.redis-tls/port", "1,6379"), clash},
		{"a wider range in the later one", both("redis-tls/addresses", "10.0.0.1,10.0.0.2", "other.redis-tls/addresses", "10.0.0.0/24"), clash},
		{"two names for one address", both("redis-tls/addresses", "10.0.0.3", "redis-tls/host", "a.example.com", "other.redis-tls/addresses", "10.0.0.3", "other.redis-tls/host", "b.example.com"), clash},
		{"a port that one passes through on a shared address", both("redis-tls/addresses", "10.0.0.3", "redis-tls/host", "a.example.com", "redis-tls/passthrough-ports", "9121", "other.redis-tls/addresses", "10.0.0.3", "other.redis-tls/port", "9121"),
			clash},
		{"the same address with other ports", both("redis-tls/addresses", "10.0.0.3", "redis-tls/host", "a.example.com", "other.redis-tls/addresses", "10.0.0.3", "other.redis-tls/port", "6380"), nil},
		{"other addresses with the same port", both("redis-tls/addresses", "10.0.0.3", "other.redis-tls/addresses", "10.0.0.4"), nil},
		{"two names for one address, by VIPs only", both("redis-tls/addresses", "10.0.0.3", "redis-tls/host", "a.example.com", "redis-tls/target-port", "6380",
			"other.redis-tls/addresses", "10.0.0.3", "other.redis-tls/host", "b.example.com"), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := Resolve(test.in, config.Default(), cluster)
			wantErrors(t, res, test.want...)
			messages.Add(test.name, errorTexts(res.Errors)...)
		})
	}
}
