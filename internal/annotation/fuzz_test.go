package annotation

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

func fuzzConfig() config.Config {
	cfg := pinsInBothFamilies()
	cfg.ClusterDomain = "corp.example"
	return cfg
}

// FuzzHost: what is taken the oracle takes; plain ASCII names that the oracle takes are taken; a normal
// form is its own.
func FuzzHost(f *testing.F) {
	for _, group := range hostileHosts {
		for _, host := range group.hosts {
			f.Add(host)
		}
	}
	for _, host := range []string{"redis-a.aivencloud.com", "Redis.Example.COM.", "bücher.example", "xn--bcher-kva.example", "a.b.c.d", "cluster.local.example.com", "1a.2b", "a.shop", "six.data"} {
		f.Add(host)
	}
	r := rules{cfg: fuzzConfig(), services: cluster, namespace: "shop"}
	f.Fuzz(func(t *testing.T, text string) {
		host, problem := r.host(text)
		if problem == "" {
			if why := oracleHost(host); why != "" {
				t.Fatalf("%q was taken as %q, which %s", text, host, why)
			}
			if again, problem := r.host(host); again != host || problem != "" {
				t.Fatalf("%q is %q, which is %q, %s", text, host, again, problem)
			}
		}
		lower := strings.ToLower(text)
		if isPlain := !strings.Contains(lower, "xn--") && !strings.ContainsFunc(text, func(r rune) bool { return r >= 0x80 }); !isPlain {
			return
		}
		plain := strings.TrimSuffix(lower, ".")
		if why := oracleHost(plain); (why == "") != (problem == "") {
			t.Fatalf("%q: the oracle says %q, the code %q", text, why, problem)
		} else if problem == "" && host != plain {
			t.Fatalf("%q is %q, want %q", text, host, plain)
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
	for _, address := range []string{"10.0.0.3", "10.0.0.0/28", "10.0.0.5/24", "2001:db8::5/64", "64:ff9b::10.0.0.3", "64:ff9b::10.0.0.0/120", "2002:808:808::/48", "11.0.0.0/8", "2002::/16", "2000::/3", "64:ff9b::/96", "fd12::/16"} {
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
			t.Fatalf("%q: the oracle takes it: %t, the code says %q", text, taken, problem)
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

// FuzzResolve: nothing panics, the result is whole, always the same, valid when there is no error,
// and what it says asked for again gives it again.
func FuzzResolve(f *testing.F) {
	seeds := []string{ // host, port, target, passthrough, addresses, secret, key, sni, names, mode
		"a.example.com|||||||||", "A.example.com.|6379,26379|||||||", "a.example.com|6379|6380||||||", "a.example.com|6379|6380|9121,9000|||||",
		"|6378|||10.0.0.3|ca|redis-cert.pem||", "redis.memorystore-redis||6378||10.0.0.3|ca|||", "a.example.com||||10.0.0.0/28,10.0.0.3|ca|||", "||||2001:db8::3|||sni.example.com|a.example.com,spiffe://a/b,10.0.0.3",
		"localhost|x|y|z|127.0.0.1|../|..|*|*", "|1|||||||", "a.example.com|15001|70000|,|,|,|,|,|,", "a.example.com||||10.0.0.3,,|||::1|",
		"redis.data|||||||||istio-mutual", "cache|6379,26379||||||||istio-mutual", "redis||6380||10.0.0.3|ca||x|y|istio-mutual",
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

var fuzzKeys = []string{"host", "port", "target-port", "passthrough-ports", "addresses", "ca-secret", "ca-key", "sni", "subject-alt-names", "mode"}

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
	if outcomes := len(res.Errors) + len(res.Place) + len(res.Originations); (outcomes == 0) != (res.Skip != "") {
		t.Fatalf("skip %q beside %d outcomes", res.Skip, outcomes)
	}
	for _, err := range res.Errors {
		if err.Field == "" || err.Detail == "" || len(err.Error()) > 4000 {
			t.Fatalf("a poor message: %v", err)
		}
	}
	if len(res.Errors) > 0 {
		if len(res.Originations) > 0 {
			t.Fatalf("originations beside errors %v", res.Errors)
		}
		return
	}
	for _, o := range res.Originations {
		if err := ValidateOrigination(&o, "shop", cfg); err != nil {
			t.Fatalf("Validate refuses what Resolve made of %+v: %v", in, err)
		}
	}
	if len(res.Originations) == 0 {
		return
	}
	s := origination.Status{Version: origination.StatusVersion, Originations: res.Originations}
	if got, err := origination.ParseStatus(s.String()); err != nil || got.String() != s.String() {
		t.Fatalf("status %s is read as %s, %v", s, got, err)
	}
	again := Resolve(Input{Namespace: in.Namespace, Annotations: respelled(res.Originations)}, cfg, cluster)
	if diff := cmp.Diff(connections(res.Originations), connections(again.Originations), compareResults); diff != "" || len(again.Errors) > 0 {
		t.Fatalf("asked for again: %v\n%s", again.Errors, diff)
	}
}

// respelled are annotations that ask for exactly these originations: an instance for the ports that
// lead to themselves, and one for each that leads elsewhere.
func respelled(os []origination.Origination) map[string]string {
	annotations := map[string]string{}
	for i, o := range os {
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
			values := []string{o.Host, ports, target, strings.Trim(strings.ReplaceAll(fmt.Sprint(o.Passthrough), " ", ","), "[]"),
				joinAddresses(o.Addresses), o.TLS.CASecret, o.TLS.CAKey, o.TLS.SNI, strings.Join(o.TLS.SubjectAltNames, ","), string(o.TLS.Mode)}
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
func connections(os []origination.Origination) []origination.Origination {
	bare := make([]origination.Origination, len(os))
	for i, o := range os {
		o.Instances = nil
		bare[i] = o
	}
	return bare
}

// FuzzStatus: a claim that passes Validate is one that the oracles would let through.
func FuzzStatus(f *testing.F) {
	for _, o := range []origination.Origination{pinnedByName(), dialledByAddress(), byDNS("kubernetes.default.svc"), inMesh("redis.shop.svc.corp.example")} {
		f.Add(origination.Status{Version: origination.StatusVersion, Originations: []origination.Origination{o}}.String(), uint8(0), "")
		for field := range uint8(8) {
			f.Add(origination.Status{Version: origination.StatusVersion, Originations: []origination.Origination{o}}.String(), field, "127.0.0.1/32")
			f.Add(origination.Status{Version: origination.StatusVersion, Originations: []origination.Origination{o}}.String(), field, "b.example.com")
		}
	}
	f.Add(`{"version":"v1","originations":[{"addresses":[""],"pin":[""]}]}`, uint8(0), "")
	cfg := fuzzConfig()
	f.Fuzz(func(t *testing.T, text string, place uint8, replacement string) {
		quoted, _ := json.Marshal(replacement)
		if parts := strings.SplitAfter(text, `"`); place > 0 && int(place)*4 < len(parts) { // another text for one of its own
			at := int(place) * 4
			parts[at] = strings.TrimPrefix(string(quoted), `"`)
			text = strings.Join(parts, "")
		}
		s, err := origination.ParseStatus(text)
		if err != nil {
			return
		}
		for _, o := range s.Originations {
			if ValidateOrigination(&o, "shop", cfg) != nil {
				continue
			}
			if o.InMesh() {
				if !strings.HasSuffix(o.Host, ".shop.svc.corp.example") || len(o.Addresses)+len(o.Pin)+len(o.Passthrough) > 0 {
					t.Errorf("%+v is a valid claim", o)
				}
				continue
			}
			if why := oracleHost(o.Host); why != "" && !o.HostSynthesised && why != "is a Service" {
				t.Errorf("host %q of a valid claim %s", o.Host, why)
			}
			for _, p := range o.Addresses {
				if _, taken := oracleAddress(p.String()); !taken && cluster.without(p) {
					t.Errorf("address %s of a valid claim", p)
				}
			}
			if len(o.TLS.SubjectAltNames) == 0 && o.TLS.CASecret == "" {
				t.Errorf("%+v believes any public certificate", o)
			}
		}
	})
}

// FuzzConfig: nothing panics, and what is taken is taken again as it is written.
func FuzzConfig(f *testing.F) {
	f.Add(everything)
	f.Add("vip: {cidr: 10.0.0.0}\npolicy: {allowedCIDRs: [x]}\ncleanup: {delay: 1}")
	f.Add("defaults: {redis-tls/host: 1, redis-tls/port: [], x: null}")
	f.Add("[1]")
	f.Add("policy: 1\nvip: x\nfirstUse: [1]\nistio: null\nclusterDomain: {}")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := ParseConfig([]byte(text))
		if err != nil {
			return
		}
		written, err := yaml.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseConfig(written)
		if diff := cmp.Diff(cfg, again, compareResults); diff != "" || err != nil {
			t.Fatalf("%s\nread again: %v\n%s", written, err, diff)
		}
		checkResolved(t, inherit("redis-tls/port", "6380"), cfg)
	})
}

// without says that no Service is within the range: Validate does not look them up.
func (k knownServices) without(p netip.Prefix) bool {
	_, found := k.ServiceWithin(p)
	v4, ok := origination.EmbeddedIPv4(p)
	if ok && !found {
		_, found = k.ServiceWithin(v4)
	}
	return !found
}
