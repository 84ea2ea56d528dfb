package annotation

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// TestALivePodResolvesToWhatItWasAdmittedWith: the status has the same keys, whether they are inherited or not, and
// resolves to the same originations. A difference would orphan the objects of a running pod.
func TestALivePodResolvesToWhatItWasAdmittedWith(t *testing.T) {
	requests := plainRequests()
	for _, s := range shapes() {
		requests = append(requests, requestCase{name: s.name, in: s.in})
	}
	requests = append(requests,
		requestCase{name: "a Service of the mesh", in: pod("redis-tls/host", "six", "redis-tls/mode", "istio-mutual")},
		requestCase{name: "a restricted pod", in: pod("redis-tls/host", "a.example.com", "redis-tls/sidecar", "restrict")},
		requestCase{
			name: "several instances, of which two are on one host",
			in: pod("redis-tls/host", "a.example.com", "b.redis-tls/host", "a.example.com", "b.redis-tls/port", "6380",
				"c.redis-tls/addresses", "10.0.0.0/28", "c.redis-tls/ca-secret", "ca", "d.redis-tls/host", "d.example.com"),
		},
	)
	for _, r := range requests {
		t.Run(r.name, func(t *testing.T) {
			r.in.ServiceAccount = "cart"
			want := mustResolve(t, r.in, permissive())
			if len(want.Originations) == 0 {
				t.Fatal("it has no originations")
			}
			for _, o := range want.Originations {
				if o.Key == "" || len(o.VIPs) > 0 {
					t.Errorf("%s has the key %q, and the VIPs %v before they are drawn", o.Host, o.Key, o.VIPs)
				}
			}
			for place, in := range map[string]Input{"the namespace": r.in, "the Helm values": r.in} {
				cfg := permissive()
				in.NamespaceLabels, in.Annotations = map[string]string{"redis-tls/injection": "enabled"}, nil
				if place == "the namespace" {
					in.NamespaceAnnotations = r.in.Annotations
				} else {
					cfg.Defaults = r.in.Annotations
				}
				got := mustResolve(t, in, cfg)
				if diff := cmp.Diff(want.Originations, got.Originations, compareKeys); diff != "" || got.Settings != want.Settings {
					t.Errorf("from %s: settings %+v, originations (-of the pod +inherited):\n%s", place, got.Settings, diff)
				}
				if got.Status.String() != want.Status.String() {
					t.Errorf("the status from %s is %s, from the pod %s", place, got.Status, want.Status)
				}
				if got.Requested {
					t.Errorf("a pod that inherits from %s requests TLS", place)
				}
			}
		})
	}
}

func TestStatusHasTheKeysInEffect(t *testing.T) {
	const host = "redis-tls/host"
	both := func(in Input, pairs ...string) Input {
		in.Annotations = keysAndValues(pairs...)
		return in
	}
	unlabelled := both(inherit("redis-tls/port", "1"), host, "a.example.com")
	unlabelled.NamespaceLabels = nil
	for _, test := range []struct {
		name     string
		in       Input
		defaults map[string]string
		want     map[string]string
	}{
		{
			name:     "each key by precedence",
			in:       both(inherit(host, "a.example.com", "redis-tls/port", "6380"), "redis-tls/port", "6381"),
			defaults: keysAndValues("redis-tls/port", "6382", "redis-tls/ca-secret", "ca"),
			want:     keysAndValues(host, "a.example.com", "redis-tls/port", "6381", "redis-tls/ca-secret", "ca"),
		},
		{
			name: "no instance that an empty host removes",
			in:   both(inherit(host, "a.example.com", "redis-tls/port", "6380", "b.redis-tls/host", "b.example.com"), host, ""),
			want: keysAndValues("b.redis-tls/host", "b.example.com"),
		},
		{
			name: "no instance that a blank host removes",
			in: both(
				inherit("b.redis-tls/host", "b.example.com", "b.redis-tls/ca-secret", "ca"),
				host, "a.example.com",
				"b.redis-tls/host", " ",
			),
			want: keysAndValues(host, "a.example.com"),
		},
		{
			name:     "no instance that the namespace removes",
			in:       inherit(host, "", "b.redis-tls/host", "b.example.com"),
			defaults: keysAndValues(host, "a.example.com", "redis-tls/ca-secret", "ca"),
			want:     keysAndValues("b.redis-tls/host", "b.example.com"),
		},
		{
			name: "no inherited key without a host",
			in:   inherit("redis-tls/port", "6380", "b.redis-tls/host", "b.example.com"),
			want: keysAndValues("b.redis-tls/host", "b.example.com"),
		},
		{
			name: "no empty value",
			in:   both(inherit(host, "a.example.com", "redis-tls/port", "6380"), "redis-tls/port", "", "redis-tls/mode", " "),
			want: keysAndValues(host, "a.example.com"),
		},
		{
			name: "trimmed values",
			in:   pod(host, " a.example.com\n", "redis-tls/port", " 6379 , 6380 "),
			want: keysAndValues(host, "a.example.com", "redis-tls/port", "6379 , 6380"),
		},
		{
			name: "the default instance by its short name",
			in:   pod("default.redis-tls/host", "a.example.com"),
			want: keysAndValues(host, "a.example.com"),
		},
		{
			name:     "nothing of a namespace that is not opted in",
			in:       unlabelled,
			defaults: keysAndValues("redis-tls/ca-secret", "ca"),
			want:     keysAndValues(host, "a.example.com"),
		},
		{
			name: "neither inject nor the webhook's annotations",
			in: pod(
				host, "a.example.com",
				"redis-tls/inject", "true",
				"redis-tls/status", "forged",
				"redis-tls/vips", "forged",
				"redis-tls/first-use", "forged",
				"app", "cart",
			),
			want: keysAndValues(host, "a.example.com"),
		},
		{
			name: "no key of a namespace that is allowed only on pods, or unknown",
			in: inherit(
				host, "a.example.com",
				"redis-tls/server", "strict",
				"redis-tls/inject", "true",
				"redis-tls/hots", "x",
			),
			want: keysAndValues(host, "a.example.com"),
		},
		{
			name: "a server",
			in:   pod("redis-tls/server", "strict"),
			want: keysAndValues("redis-tls/server", "strict"),
		},
		{
			name:     "an inherited restriction",
			in:       inherit(host, "a.example.com"),
			defaults: keysAndValues("redis-tls/sidecar", "restrict"),
			want:     keysAndValues(host, "a.example.com", "redis-tls/sidecar", "restrict"),
		},
		{
			name: "no inherited restriction without a Redis",
			in:   both(inherit("redis-tls/sidecar", "restrict"), "redis-tls/server", "strict"),
			want: keysAndValues("redis-tls/server", "strict"),
		},
		{
			name: "no restriction that the pod removes",
			in:   both(inherit(host, "a.example.com", "redis-tls/sidecar", "restrict"), "redis-tls/sidecar", ""),
			want: keysAndValues(host, "a.example.com"),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := withConfig(func(c *config.Config) { c.Defaults = test.defaults })
			res := mustResolve(t, test.in, cfg)
			want := origination.Status{Version: "v1", Request: test.want}
			if diff := cmp.Diff(want, res.Status); diff != "" {
				t.Errorf("status differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoStatusWithoutInjection(t *testing.T) {
	disabled := pod("redis-tls/host", "a.example.com", "redis-tls/inject", "false")
	for name, in := range map[string]Input{
		"refused":           pod("redis-tls/host", "*"),
		"skipped":           pod(),
		"opted out":         disabled,
		"nothing inherited": inherit("redis-tls/port", "6380"),
	} {
		if res := Resolve(in, config.Default(), cluster); res.Status.Version != "" || res.Status.Request != nil {
			t.Errorf("%s: status %s", name, res.Status)
		}
	}
}

// The name of a Certificate's Secret is looked up at admission: a later change must not affect running pods.
func TestStatusHasTheSecretOfACertificate(t *testing.T) {
	for certificate, secret := range map[string]string{"redis-client": "redis-client-tls", "to-come": "to-come"} {
		res := mustResolve(t, annotated("mode", "mutual", "certificate", certificate, "delivery", "sds"), config.Default())
		if diff := cmp.Diff(map[string]string{certificate: secret}, res.Status.Secrets); diff != "" {
			t.Errorf("secrets differ (-want +got):\n%s", diff)
		}
		if got := res.Originations[0].TLS.ClientSecret; got != secret {
			t.Errorf("the Secret of %s is %s", certificate, got)
		}
	}
	if res := mustResolve(
		t,
		annotated("mode", "mutual", "client-secret", "redis-client"),
		config.Default(),
	); res.Status.Secrets != nil {
		t.Errorf("secrets %v without a Certificate", res.Status.Secrets)
	}
}

func TestLivePodsFollowTheCurrentConfiguration(t *testing.T) {
	messages := catalog.Open(t)
	admitted := mustResolve(t, annotated("port", "6380"), config.Default())
	for _, test := range []struct {
		name   string
		change func(*config.Config)
		same   bool
		err    string
	}{
		{
			name: "other Helm defaults",
			change: func(c *config.Config) {
				c.Defaults = keysAndValues("redis-tls/ca-secret", "ca", "redis-tls/host", "b.example.com")
			},
			same: true,
		},
		{
			name:   "a wider policy",
			change: func(c *config.Config) { c.Policy.AllowedHosts = []string{"*.example.com"} },
			same:   true,
		},
		{
			name:   "another range of the same family",
			change: func(c *config.Config) { c.VIP.CIDR = prefixes("10.255.0.0/16")[0] },
			same:   true,
		},
		{
			name:   "a further family of VIPs",
			change: func(c *config.Config) { c.VIP = vipsInBothFamilies().VIP },
		},
		{
			name:   "other system roots",
			change: func(c *config.Config) { c.Istio.SystemRoots = "/roots.pem" },
		},
		{
			name:   "a narrower policy",
			change: func(c *config.Config) { c.Policy.AllowedPorts = []string{"6379"} },
			err:    podKey + "port]: Forbidden",
		},
		{
			name:   "a namespace that is now excluded",
			change: func(c *config.Config) { c.ExcludedNamespaces = []string{"shop"} },
			err:    "metadata.namespace: Invalid value",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			res, err := ResolveStatus(admitted.Status, "shop", "", withConfig(test.change), cluster)
			if test.err != "" {
				if diff := cmp.Diff(Result{}, res); err == nil || !strings.HasPrefix(err.Error(), test.err) || diff != "" {
					t.Fatalf("error %v, result %s", err, diff)
				}
				messages.Add(test.name, aggregatedTexts(err)...)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if same := res.Originations[0].Key == admitted.Originations[0].Key; same != test.same {
				t.Errorf("the key is the same: %t, want %t", same, test.same)
			}
		})
	}
}

// TestForgedRequestsAreRefused: the owner of a pod can write its status after admission, so the rules of admission
// apply to it.
func TestForgedRequestsAreRefused(t *testing.T) {
	messages := catalog.Open(t)
	const host = "redis-tls/host"
	certificate := keysAndValues(
		host, "a.example.com",
		"redis-tls/mode", "mutual",
		"redis-tls/certificate", "client",
		"redis-tls/delivery", "sds",
	)
	for _, test := range []struct {
		name    string
		request map[string]string
		secrets map[string]string
		want    string
	}{
		{
			name:    "a Service of another namespace",
			request: keysAndValues(host, "redis.data", "redis-tls/ca-secret", "ca"),
			want:    podKey + "host]: Forbidden",
		},
		{
			name:    "the mesh's Service of another namespace",
			request: keysAndValues(host, "redis.data", "redis-tls/mode", "istio-mutual"),
			want:    podKey + "host]: Forbidden",
		},
		{
			name:    "the address of a Service",
			request: keysAndValues("redis-tls/addresses", "10.96.0.10", "redis-tls/ca-secret", "ca"),
			want:    podKey + "addresses]: Invalid value",
		},
		{
			name:    "the API server",
			request: keysAndValues(host, "kubernetes.default.svc"),
			want:    podKey + "host]: Invalid value",
		},
		{
			name:    "a metadata address",
			request: keysAndValues("redis-tls/addresses", "169.254.169.254", "redis-tls/ca-secret", "ca"),
			want:    podKey + "addresses]: Invalid value",
		},
		{
			name:    "a metadata host",
			request: keysAndValues(host, "metadata.google.internal"),
			want:    podKey + "host]: Invalid value",
		},
		{
			name:    "a VIP",
			request: keysAndValues("redis-tls/addresses", "251.0.0.7", "redis-tls/ca-secret", "ca"),
			want:    podKey + "addresses]: Invalid value",
		},
		{
			name:    "everything",
			request: keysAndValues("redis-tls/addresses", "0.0.0.0/0", "redis-tls/ca-secret", "ca"),
			want:    podKey + "addresses]: Invalid value",
		},
		{
			name:    "a host that the policy denies",
			request: keysAndValues(host, "a.example.org"),
			want:    podKey + "host]: Forbidden",
		},
		{
			name:    "an address that the policy denies",
			request: keysAndValues("redis-tls/addresses", "192.0.2.1", "redis-tls/ca-secret", "ca"),
			want:    podKey + "addresses]: Forbidden",
		},
		{
			name:    "a port that the policy denies",
			request: keysAndValues(host, "a.example.com", "redis-tls/port", "22"),
			want:    podKey + "port]: Forbidden",
		},
		{
			name:    "a target that the policy denies",
			request: keysAndValues(host, "a.example.com", "redis-tls/target-port", "22"),
			want:    podKey + "target-port]: Forbidden",
		},
		{
			name:    "a port passed through that the policy denies",
			request: keysAndValues(host, "a.example.com", "redis-tls/passthrough-ports", "22"),
			want:    podKey + "passthrough-ports]: Forbidden",
		},
		{
			name: "an issuer that the policy denies",
			request: keysAndValues(
				host, "a.example.com",
				"redis-tls/mode", "mutual",
				"redis-tls/issuer", "redis",
				"redis-tls/issuer-kind", "ClusterIssuer",
			),
			want: podKey + "issuer]: Forbidden",
		},
		{
			name:    "any certificate",
			request: keysAndValues(host, "a.example.com", "redis-tls/insecure-skip-verify", "true"),
			want:    podKey + "insecure-skip-verify]: Forbidden",
		},
		{
			name:    "system roots and no name to check",
			request: keysAndValues("redis-tls/addresses", "10.0.0.3"),
			want:    podKey + "subject-alt-names]: Required value",
		},
		{
			name:    "an unknown key",
			request: keysAndValues(host, "a.example.com", "redis-tls/subject-alt-name", "b.example.com"),
			want:    podKey + "subject-alt-name]: Invalid value",
		},
		{
			name:    "a key in capitals",
			request: keysAndValues(host, "a.example.com", "Redis-TLS/sni", "b.example.com"),
			want:    "metadata.annotations[Redis-TLS/sni]: Invalid value",
		},
		{
			name:    "an invalid instance",
			request: keysAndValues("a.b.redis-tls/host", "a.example.com"),
			want:    "metadata.annotations[a.b.redis-tls/host]: Invalid value",
		},
		{
			name:    "keys without a host",
			request: keysAndValues("redis-tls/port", "6379"),
			want:    podKey + "host]: Required value",
		},
		{
			name: "two hosts on one address",
			request: keysAndValues(
				"redis-tls/addresses", "10.0.0.3",
				"redis-tls/ca-secret", "ca",
				"b.redis-tls/addresses", "10.0.0.0/28",
				"b.redis-tls/ca-secret", "b",
			),
			want: podKey + "addresses]: Invalid value",
		},
		{
			name:    "another value of server",
			request: keysAndValues("redis-tls/server", "disable"),
			want:    podKey + "server]: Unsupported value",
		},
		{
			name:    "another value of sidecar",
			request: keysAndValues(host, "a.example.com", "redis-tls/sidecar", "allow"),
			want:    podKey + "sidecar]: Unsupported value",
		},
		{
			name:    "a restriction without a Redis",
			request: keysAndValues("redis-tls/server", "strict", "redis-tls/sidecar", "restrict"),
			want:    podKey + "sidecar]: Invalid value",
		},
		{
			name:    "a ConfigMap of another namespace as Secret",
			request: certificate,
			secrets: keysAndValues("client", "configmap://data/ca"),
			want:    podKey + "certificate]: Invalid value",
		},
		{
			name:    "a path as Secret",
			request: certificate,
			secrets: keysAndValues("client", "../x"),
			want:    podKey + "certificate]: Invalid value",
		},
		{
			name:    "a Secret of CAs for a client certificate",
			request: certificate,
			secrets: keysAndValues("client", "x-cacert"),
			want:    podKey + "client-secret]: Invalid value",
		},
		{
			name: "no request",
			want: "redis-tls/status: ",
		},
		{
			name:    "keys of other projects",
			request: keysAndValues("example.com/host", "a.example.com"),
			want:    "redis-tls/status: ",
		},
		{
			name:    "an opt-out",
			request: keysAndValues(host, "a.example.com", "redis-tls/inject", "false"),
			want:    "redis-tls/status: ",
		},
		{
			name:    "another value of inject",
			request: keysAndValues(host, "a.example.com", "redis-tls/inject", "maybe"),
			want:    podKey + "inject]: Unsupported value",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config.Default()
			cfg.Policy.AllowedHosts = []string{"*.example.com"}
			cfg.Policy.AllowedCIDRs = prefixes("10.0.0.0/8")
			cfg.Policy.AllowedPorts = []string{"6379-6380", "26379"}
			for _, unspoilt := range []map[string]string{
				keysAndValues(host, "a.example.com"),
				keysAndValues("redis-tls/addresses", "10.0.0.3", "redis-tls/ca-secret", "ca"),
				certificate,
			} {
				if _, err := ResolveStatus(origination.Status{
					Version: "v1",
					Request: unspoilt,
				}, "shop", "", cfg, cluster); err != nil {
					t.Fatalf("refused unspoilt: %v", err)
				}
			}
			res, err := ResolveStatus(origination.Status{
				Version: "v1",
				Request: maps.Clone(test.request),
				Secrets: test.secrets,
			}, "shop", "", cfg, cluster)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want %q", err, test.want)
			}
			messages.Add(test.name, aggregatedTexts(err)...)
			if diff := cmp.Diff(Result{}, res); diff != "" {
				t.Errorf("a result with the error: %s", diff)
			}
		})
	}
}
