package annotation

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

func TestInstancesOfOneHostAreMerged(t *testing.T) {
	merged := func(change func(*origination.Origination)) origination.Origination {
		return with(byDNS("a.example.com"), func(o *origination.Origination) {
			o.Instances = []string{
				"default",
				"other",
			}
			change(o)
		})
	}
	for _, test := range []struct {
		name string
		in   Input
		want origination.Origination
	}{
		{
			name: "the union of their ports",
			in: pod(
				"redis-tls/host", "a.example.com",
				"other.redis-tls/host", "a.example.com",
				"other.redis-tls/port", "26379,6379",
			),
			want: merged(func(o *origination.Origination) {
				o.Ports = []origination.Port{{Number: 6379, Target: 6379}, {Number: 26379, Target: 26379}}
			}),
		},
		{
			name: "each port with its own target",
			in: pod(
				"redis-tls/host", "a.example.com",
				"redis-tls/target-port", "6380",
				"other.redis-tls/host", "a.example.com",
				"other.redis-tls/port", "26379",
				"other.redis-tls/target-port", "26380",
			),
			want: merged(func(o *origination.Origination) {
				o.Ports, o.Passthrough = []origination.Port{
					{Number: 6379, Target: 6380},
					{Number: 26379, Target: 26380},
				}, []int32{6380, 26380}
			}),
		},
		{
			name: "an implied passthrough yields to TLS of the later instance",
			in: pod(
				"redis-tls/host", "a.example.com",
				"redis-tls/target-port", "6380",
				"other.redis-tls/host", "a.example.com",
				"other.redis-tls/port", "6380",
			),
			want: merged(func(o *origination.Origination) {
				o.Ports = []origination.Port{{Number: 6379, Target: 6380}, {Number: 6380, Target: 6380}}
			}),
		},
		{
			name: "an implied passthrough yields to TLS of the earlier instance",
			in: pod(
				"other.redis-tls/host", "a.example.com",
				"other.redis-tls/target-port", "6380",
				"redis-tls/host", "a.example.com",
				"redis-tls/port", "6380",
			),
			want: merged(func(o *origination.Origination) {
				o.Ports = []origination.Port{{Number: 6379, Target: 6380}, {Number: 6380, Target: 6380}}
			}),
		},
		{
			name: "the union of what is passed through",
			in: pod(
				"redis-tls/host", "a.example.com",
				"redis-tls/passthrough-ports", "9121",
				"other.redis-tls/host", "a.example.com",
				"other.redis-tls/passthrough-ports", "9000,9121",
			),
			want: merged(func(o *origination.Origination) { o.Passthrough = []int32{9000, 9121} }),
		},
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
		{
			name: "in the CA and its key",
			in:   hosts("redis-tls/ca-secret", "one", "other.redis-tls/ca-secret", "two", "other.redis-tls/ca-key", "x"),
			want: []string{
				other + "ca-secret]: Invalid value",
				other + "ca-key]: Invalid value"},
		},
		{
			name: "in the server name",
			in:   hosts("redis-tls/sni", "b.example.com"),
			want: []string{other + "sni]: Invalid value"},
		},
		{
			name: "in the names to check",
			in:   hosts("other.redis-tls/subject-alt-names", "b.example.com,c.example.com"),
			want: []string{other + "subject-alt-names]: Invalid value"},
		},
		{
			name: "in mode and client certificate",
			in: hosts(
				"redis-tls/mode", "mutual",
				"redis-tls/client-secret", "client",
				"redis-tls/ca-configmap", "trust",
				"other.redis-tls/ca-configmap", "trust",
			),
			want: []string{
				other + "mode]: Invalid value",
				other + "client-secret]: Invalid value"},
		},
		{
			name: "in the issuer of their certificates",
			in: hosts(
				"redis-tls/mode", "mutual",
				"redis-tls/issuer", "one",
				"redis-tls/ca-secret", "ca",
				"other.redis-tls/mode", "mutual",
				"other.redis-tls/issuer", "two",
				"other.redis-tls/ca-secret", "ca",
			),
			want: []string{other + "issuer]: Invalid value"},
		},
		{
			name: "in the delivery",
			in:   hosts("redis-tls/ca-secret", "ca", "redis-tls/delivery", "sds", "other.redis-tls/ca-secret", "ca"),
			want: []string{other + "delivery]: Invalid value"},
		},
		{
			name: "in the protocol and the connection settings",
			in: hosts(
				"redis-tls/protocol", "redis",
				"redis-tls/connect-timeout", "3s",
				"other.redis-tls/idle-timeout", "0s",
				"redis-tls/tcp-keepalive", "probes=3",
			),
			want: []string{
				other + "protocol]: Invalid value",
				other + "connect-timeout]: Invalid value",
				other + "idle-timeout]: Invalid value",
				other + "tcp-keepalive]: Invalid value"},
		},
		{
			name: "in the addresses",
			in: hosts(
				"redis-tls/ca-secret", "ca",
				"other.redis-tls/ca-secret", "ca",
				"redis-tls/addresses", "10.0.0.3",
				"other.redis-tls/addresses", "10.0.0.0/28,10.1.0.1",
				"redis-tls/sni", "a.example.com",
				"other.redis-tls/sni", "a.example.com",
			),
			want: []string{other + "addresses]: Invalid value"},
		},
		{
			name: "in the target of a port",
			in:   hosts("redis-tls/target-port", "6380", "other.redis-tls/target-port", "6381"),
			want: []string{other + "target-port]: Invalid value"},
		},
		{
			name: "on a port that one passes through",
			in:   hosts("redis-tls/passthrough-ports", "9121", "other.redis-tls/port", "9121"),
			want: []string{other + "port]: Invalid value"},
		},
		{
			name: "on a port that the other passes through",
			in:   hosts("redis-tls/port", "9121", "other.redis-tls/passthrough-ports", "9121"),
			want: []string{other + "passthrough-ports]: Invalid value"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := Resolve(test.in, config.Default(), cluster)
			wantErrors(t, res, test.want...)
			messages.Add(test.name, errorTexts(res.Errors)...)
		})
	}
}

func TestInstancesOfTheSameAddressesShareTheirNames(t *testing.T) {
	messages := catalog.Open(t)
	const (
		subnets  = "10.0.16.0/24,10.0.17.0/24"
		sessions = "clustercfg.sessions.abc123.usw2.cache.amazonaws.com"
		jobs     = "clustercfg.jobs.abc123.usw2.cache.amazonaws.com"
		another  = "metadata.annotations[jobs.redis-tls/subject-alt-names]"
	)
	both := func(pairs ...string) Input {
		in := pod(
			"redis-tls/addresses", subnets,
			"redis-tls/subject-alt-names", sessions,
			"jobs.redis-tls/addresses", subnets,
			"jobs.redis-tls/subject-alt-names", jobs,
			"redis-tls/sidecar", "restrict",
		)
		for i := 0; i < len(pairs); i += 2 {
			in.Annotations[pairs[i]] = pairs[i+1]
		}
		return in
	}
	for _, test := range []struct {
		name     string
		in       Input
		names    []string
		warnings []string
		errs     []string
	}{
		{
			name:     "two caches of one subnet group",
			in:       both(),
			names:    []string{jobs, sessions},
			warnings: []string{another},
		},
		{
			name: "three caches, in another order of addresses",
			in: both("more.redis-tls/addresses", "10.0.17.0/24,10.0.16.0/24", "more.redis-tls/subject-alt-names",
				"more.example.com,"+jobs),
			names:    []string{jobs, sessions, "more.example.com"},
			warnings: []string{another, "metadata.annotations[more.redis-tls/subject-alt-names]"},
		},
		{
			name: "one of them checks no name",
			in:   both("redis-tls/ca-secret", "ca", "jobs.redis-tls/ca-secret", "ca", "jobs.redis-tls/subject-alt-names", ""),
			errs: []string{another + ": Invalid value"},
		},
		{
			name: "another CA",
			in:   both("jobs.redis-tls/ca-secret", "ca"),
			errs: []string{"metadata.annotations[jobs.redis-tls/ca-secret]: Invalid value",
				"metadata.annotations[jobs.redis-tls/ca-key]: Invalid value", another + ": Invalid value"},
		},
		{
			name: "other ports",
			in:   both("jobs.redis-tls/port", "6380"),
			errs: []string{another + ": Invalid value"},
		},
		{
			name: "a server name",
			in:   both("redis-tls/sni", "a.example.com", "jobs.redis-tls/sni", "a.example.com"),
			errs: []string{another + ": Invalid value"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := Resolve(test.in, config.Default(), cluster)
			wantErrors(t, res, test.errs...)
			wantWarnings(t, res.Warnings, test.warnings...)
			messages.Add(test.name, append(errorTexts(res.Errors), res.Warnings...)...)
			var names [][]string
			for i := range res.Originations {
				names = append(names, res.Originations[i].TLS.SubjectAltNames)
			}
			if diff := cmp.Diff(test.names, slices.Concat(names...), cmpopts.EquateEmpty()); diff != "" || len(names) > 1 {
				t.Errorf("names of %d originations (-want +got):\n%s", len(names), diff)
			}
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
		{
			name: "an address within the range of the other",
			in:   both("redis-tls/addresses", "10.0.0.0/28", "other.redis-tls/addresses", "10.0.0.3"),
			want: clash,
		},
		{
			name: "ranges that overlap",
			in: both(
				"redis-tls/addresses", "10.0.0.0/24",
				"other.redis-tls/addresses", "10.1.0.1,10.0.0.0/28",
				"other.redis-tls/port", "1,6379",
			),
			want: clash,
		},
		{
			name: "a wider range in the later one",
			in:   both("redis-tls/addresses", "10.0.0.1,10.0.0.2", "other.redis-tls/addresses", "10.0.0.0/24"),
			want: clash,
		},
		{
			name: "two names for one address",
			in: both(
				"redis-tls/addresses", "10.0.0.3",
				"redis-tls/host", "a.example.com",
				"other.redis-tls/addresses", "10.0.0.3",
				"other.redis-tls/host", "b.example.com",
			),
			want: clash,
		},
		{
			name: "a port that one passes through on a shared address",
			in: both(
				"redis-tls/addresses", "10.0.0.3",
				"redis-tls/host", "a.example.com",
				"redis-tls/passthrough-ports", "9121",
				"other.redis-tls/addresses", "10.0.0.3",
				"other.redis-tls/port", "9121",
			),
			want: clash,
		},
		{
			name: "the same address with other ports",
			in: both(
				"redis-tls/addresses", "10.0.0.3",
				"redis-tls/host", "a.example.com",
				"other.redis-tls/addresses", "10.0.0.3",
				"other.redis-tls/port", "6380",
			),
		},
		{
			name: "other addresses with the same port",
			in:   both("redis-tls/addresses", "10.0.0.3", "other.redis-tls/addresses", "10.0.0.4"),
		},
		{
			name: "two names for one address, by VIPs only",
			in: both("redis-tls/addresses", "10.0.0.3", "redis-tls/host", "a.example.com", "redis-tls/target-port", "6380",
				"other.redis-tls/addresses", "10.0.0.3", "other.redis-tls/host", "b.example.com"),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := Resolve(test.in, config.Default(), cluster)
			wantErrors(t, res, test.want...)
			messages.Add(test.name, errorTexts(res.Errors)...)
		})
	}
}
