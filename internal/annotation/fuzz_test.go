package annotation

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

func fuzzConfig() config.Config {
	cfg := vipsInBothFamilies()
	cfg.ClusterDomain = "corp.example"
	return cfg
}

// FuzzHost: what is taken the oracle takes; names of ASCII in lower case that the oracle takes are taken, as they
// are; a normal form is its own.
func FuzzHost(f *testing.F) {
	for _, group := range hostileHosts {
		for _, host := range group.hosts {
			f.Add(host)
		}
	}
	for _, host := range []string{
		"redis-a.aivencloud.com",
		"Redis.Example.COM.",
		"bücher.example",
		"xn--bcher-kva.example",
		"a.b.c.d",
		"cluster.local.example.com",
		"1a.2b",
		"a.shop",
		"six.data",
	} {
		f.Add(host)
	}
	r := rules{cfg: fuzzConfig(), services: cluster, namespace: "shop"}
	f.Fuzz(func(t *testing.T, text string) {
		name, problem := r.host(text)
		host := name.Host
		if problem == "" {
			if why := oracleHost(host); why != "" {
				t.Fatalf("%q was accepted as %q, which %s", text, host, why)
			}
			if again, problem := r.host(host); again.Host != host || problem != "" {
				t.Fatalf("%q is %q, which is %q, %s", text, host, again, problem)
			}
		}
		lower := strings.ToLower(text)
		if isPlain := !strings.Contains(lower, "xn--") &&
			!strings.ContainsFunc(text, func(r rune) bool { return r >= 0x80 }); !isPlain {
			return
		}
		why := oracleHost(lower)
		if text != lower {
			why = "has capitals"
		}
		if (why == "") != (problem == "") {
			t.Fatalf("%q: the oracle says %q, the code %q", text, why, problem)
		} else if problem == "" && host != text && !slices.Contains(name.Aliases, text) {
			t.Fatalf("%q is %q", text, host)
		}
	})
}

// FuzzAddress: exactly what the oracle takes is taken, as the same span.
func FuzzAddress(f *testing.F) {
	for _, group := range hostileAddresses {
		for _, address := range group.addresses {
			f.Add(address)
		}
	}
	for _, address := range []string{
		"10.0.0.3",
		"10.0.0.0/28",
		"10.0.0.5/24",
		"2001:db8::5/64",
		"64:ff9b::10.0.0.3",
		"64:ff9b::10.0.0.0/120",
		"2002:808:808::/48",
		"11.0.0.0/8",
		"2002::/16",
		"2000::/3",
		"64:ff9b::/96",
		"fd12::/16",
	} {
		f.Add(address)
	}
	r := rules{cfg: fuzzConfig(), services: cluster, namespace: "shop"}
	f.Fuzz(func(t *testing.T, text string) {
		p, _, problem := parseAddress(text)
		if problem == "" {
			problem = r.addressProblem(p)
		}
		want, taken := oracleAddress(text)
		if taken != (problem == "") {
			t.Fatalf("%q: the oracle accepts it: %t, the code says %q", text, taken, problem)
		}
		if !taken {
			return
		}
		if got := spanOf(p); got.first.Cmp(want.first) != 0 || got.last.Cmp(want.last) != 0 {
			t.Fatalf("%q is %s", text, p)
		}
		if again, loose, problem := parseAddress(origination.AddressText(p)); again != p || loose || problem != "" {
			t.Fatalf("%q is %s, which is %s, %s", text, p, again, problem)
		}
	})
}

// FuzzResolve: nothing panics, the result is whole and always the same, a live pod with what is recorded of it
// resolves to it again, and so does a pod that spells it out.
func FuzzResolve(f *testing.F) {
	seeds := []string{ // host, port, target, passthrough, addresses, secret, key, sni, names, mode
		"a.example.com|||||||||",
		"A.example.com.|6379,26379|||||||",
		"a.example.com|6379|6380||||||",
		"a.example.com|6379|6380|9121,9000|||||",
		"|6378|||10.0.0.3|ca|redis-cert.pem||",
		"redis.memorystore-redis||6378||10.0.0.3|ca|||",
		"a.example.com||||10.0.0.0/28,10.0.0.3|ca|||",
		"||||2001:db8::3|||sni.example.com|a.example.com,spiffe://a/b,10.0.0.3",
		"localhost|x|y|z|127.0.0.1|../|..|*|*",
		"|1|||||||",
		"a.example.com|15001|70000|,|,|,|,|,|,",
		"a.example.com||||10.0.0.3,,|||::1|",
		"redis.data|||||||||istio-mutual",
		"cache|6379,26379||||||||istio-mutual",
		"redis||6380||10.0.0.3|ca||x|y|istio-mutual",
		"cache|||||ca|||",
		"cache-0.six.shop.svc|||||ca||x|y|",
	}
	for i, seed := range seeds {
		for place := range uint8(16) {
			f.Add(place, seed, seeds[(i+int(place)+3)%len(seeds)], "redis-tls/hots", "value")
		}
	}
	f.Add(uint8(0), seeds[0], "", "redis-tls/inject", "false")
	f.Add(uint8(0), seeds[0], "", "redis-tls/inject", "maybe")
	f.Add(uint8(0), seeds[0], "", "default.redis-tls/host", "b.example.com")
	f.Add(uint8(0), seeds[0], "", "A.redis-tls/mode", "mutual")
	cfg := fuzzConfig()
	f.Fuzz(func(t *testing.T, place uint8, first, second, key, value string) {
		in := fuzzInput(place, first, second, key, value)
		if place&8 != 0 {
			cfg := cfg
			cfg.Defaults = keysAndValues(key, value)
			checkResolved(t, in, cfg)
		}
		checkResolved(t, in, cfg)
	})
}

var fuzzKeys = []string{
	"host",
	"port",
	"target-port",
	"passthrough-ports",
	"addresses",
	"ca-secret",
	"ca-key",
	"sni",
	"subject-alt-names",
	"mode",
}

// fuzzInput makes a pod of two instances, of which place puts the first on pod or namespace.
func fuzzInput(place uint8, first, second, key, value string) Input {
	in := Input{Namespace: "shop", Annotations: keysAndValues(key, value), NamespaceAnnotations: keysAndValues()}
	label := []string{"", "enabled", "disabled", "other"}[place&3]
	if label != "" {
		in.NamespaceLabels = keysAndValues("redis-tls/injection", label)
	}
	to := in.Annotations
	if place&4 != 0 {
		to = in.NamespaceAnnotations
	}
	for prefix, values := range map[string]string{"redis-tls/": first, "second.redis-tls/": second} {
		for i, v := range strings.SplitN(values, "|", len(fuzzKeys)) {
			if v != "" {
				to[prefix+fuzzKeys[i]] = v
			}
		}
	}
	return in
}

func checkResolved(t *testing.T, in Input, cfg config.Config) {
	t.Helper()
	res := Resolve(in, cfg, cluster)
	if again := Resolve(in, cfg, cluster); !reflect.DeepEqual(res, again) {
		t.Fatalf("not the same twice:\n%+v\n%+v", res, again)
	}
	if outcomes := len(res.Errors) + len(res.NamespaceProblems) +
		len(res.Originations); (outcomes == 0) != (res.Skip != "") {
		t.Fatalf("skip %q with %d outcomes", res.Skip, outcomes)
	}
	for _, err := range res.Errors {
		if err.Field == "" || err.Detail == "" || len(err.Error()) > 4000 {
			t.Fatalf("a poor message: %v", err)
		}
	}
	if len(res.Errors) > 0 {
		if len(res.Originations) > 0 {
			t.Fatalf("originations with errors %v", res.Errors)
		}
		return
	}
	if len(res.Originations) == 0 {
		return
	}
	wantSameFromStatus(t, res, in, cfg, cluster)
	again := Resolve(Input{Namespace: in.Namespace, Annotations: respelled(res.Originations)}, cfg, cluster)
	if diff := cmp.Diff(
		connections(res.Originations),
		connections(again.Originations),
		compareKeys,
	); diff != "" || len(again.Errors) > 0 {
		t.Fatalf("requested again: %v\n%s", again.Errors, diff)
	}
}

// respelled are annotations that request exactly these originations: an instance for the ports that are their own
// targets, and one for each other port.
func respelled(originations []origination.Origination) map[string]string {
	annotations := map[string]string{}
	for i, o := range originations {
		targets := map[string]string{} // by ports
		same := ""
		for _, p := range o.Ports {
			if p.Number != p.Target {
				targets[fmt.Sprint(p.Number)] = fmt.Sprint(p.Target)
			} else {
				same += fmt.Sprintf("%d,", p.Number)
			}
		}
		if same != "" {
			targets[strings.TrimSuffix(same, ",")] = ""
		}
		for ports, target := range targets {
			instance := fmt.Sprintf("i%d-%s.redis-tls/", i, strings.ReplaceAll(ports, ",", "-"))
			values := []string{
				o.Host,
				ports,
				target,
				strings.Trim(strings.ReplaceAll(fmt.Sprint(o.Passthrough), " ", ","), "[]"),
				joinAddresses(o.Addresses),
				o.TLS.CASecret,
				o.TLS.CAKey,
				o.TLS.SNI,
				strings.Join(o.TLS.SubjectAltNames, ","),
				string(o.TLS.Mode),
			}
			if o.HostSynthesised {
				values[0] = ""
			}
			for k, value := range values {
				annotations[instance+fuzzKeys[k]] = value
			}
		}
	}
	return annotations
}

// connections are originations without the names that their instances had.
func connections(originations []origination.Origination) []origination.Origination {
	bare := make([]origination.Origination, len(originations))
	for i, o := range originations {
		o.Instances = nil
		bare[i] = o
	}
	return bare
}

// FuzzConfig: nothing panics, and defaults that are taken are resolved or refused as those of a namespace.
func FuzzConfig(f *testing.F) {
	f.Add(
		"defaults: {redis-tls/host: a.example.com, redis-tls/port: 6380, redis-tls/insecure-skip-verify: false}\n" +
			"vip: {ipv6CIDR: 'fd00:1::/112'}",
	)
	f.Add("defaults: {redis-tls/host: redis, redis-tls/mode: istio-mutual}\nclusterDomain: corp.example")
	f.Add(
		"defaults: {redis-tls/addresses: '10.0.0.3,2001:db8::3', redis-tls/ca-secret: ca, x.redis-tls/host: A.example.com.}",
	)
	f.Add("defaults: {redis-tls/host: 1, redis-tls/port: [], x: null}")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := ParseConfig([]byte(text))
		if err != nil {
			return
		}
		checkResolved(t, inherit("redis-tls/port", "6380"), cfg)
	})
}
