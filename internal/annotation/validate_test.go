package annotation

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// pinnedByName and dialledByAddress are valid originations for tests to spoil.
func pinnedByName() origination.Origination {
	return with(byDNS("a.example.com"), func(o *origination.Origination) {
		o.Ports, o.Passthrough = []origination.Port{{Number: 6379, Target: 6380}}, []int32{6380}
		o.Pin = []netip.Addr{netip.MustParseAddr("240.241.7.31"), netip.MustParseAddr("fd00:240:241::31")}
	})
}

func dialledByAddress() origination.Origination {
	return origination.Origination{Instances: []string{"default"}, Host: "ip-10-0-0-3", HostSynthesised: true, Addresses: prefixes("10.0.0.3"), Ports: []origination.Port{{Number: 6379, Target: 6379}}, Protocol: "tcp",
		TLS: origination.TLS{Mode: origination.ModeSimple, CASecret: "ca", CAKey: "ca.crt"}}
}

func TestAForgedStatusOfAServiceIsRefused(t *testing.T) {
	const own, of = "redis.shop.svc.cluster.local", "redis.data.svc.cluster.local"
	for _, test := range []struct {
		name  string
		spoil func(*origination.Origination)
		want  string
	}{
		{"a host outside", func(o *origination.Origination) { o.Host = "a.example.com" }, `host: "a.example.com" is not the name of a Service`},
		{"a short name", func(o *origination.Origination) { o.Host = "redis" }, `host: "redis" is not in normal form, which is "redis.shop.svc.cluster.local"`},
		{"another namespace's", func(o *origination.Origination) { o.Host = of }, `host: "redis.data.svc.cluster.local" is a Service of namespace data, and`},
		{"a pod's name", func(o *origination.Origination) { o.Host = "redis-0." + own }, "is not the name of a Service"},
		{"addresses", func(o *origination.Origination) { o.Addresses = prefixes("10.0.0.3") }, "addresses: mean nothing in mode istio-mutual"},
		{"a synthesised host", func(o *origination.Origination) { o.HostSynthesised = true }, "addresses: mean nothing in mode istio-mutual"},
		{"a target", func(o *origination.Origination) { o.Ports[0].Target = 6380 }, "leads to 6380, which needs a pinned host"},
		{"a passthrough", func(o *origination.Origination) { o.Passthrough = []int32{9121} }, "passthrough: needs a pinned host"},
		{"a protocol", func(o *origination.Origination) { o.Protocol = "mongo" }, `protocol: "mongo" means nothing`},
		{"a CA", func(o *origination.Origination) { o.TLS.CASecret, o.TLS.CAKey = "ca", "ca.crt" }, "tls: mode istio-mutual has no settings of its own"},
		{"a server name", func(o *origination.Origination) { o.TLS.SNI = own }, "tls: mode istio-mutual has no settings of its own"},
		{"names", func(o *origination.Origination) { o.TLS.SubjectAltNames = []string{own} }, "tls: mode istio-mutual has no settings of its own"},
		{"no check", func(o *origination.Origination) { o.TLS.InsecureSkipVerify = true }, "tls: mode istio-mutual has no settings of its own"},
		{"a pin", func(o *origination.Origination) { o.Pin = pinnedByName().Pin }, "pin: has nothing to be pinned"},
		{"the Service by another mode", func(o *origination.Origination) { o.TLS = byDNS(own).TLS }, "is a name inside the cluster"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := inMesh(own)
			if err := ValidateOrigination(&o, "shop", pinsInBothFamilies()); err != nil {
				t.Fatalf("refused unspoilt: %v", err)
			}
			test.spoil(&o)
			if err := ValidateOrigination(&o, "shop", pinsInBothFamilies()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	o, cfg := inMesh(of), config.Default()
	cfg.Policy.AllowedHosts = []string{of}
	if err := ValidateOrigination(&o, "shop", cfg); err != nil {
		t.Errorf("another namespace's, which the policy names: %v", err)
	}
}

func TestAForgedStatusIsRefused(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(*origination.Origination)
		want  string
	}{
		{"no instance", func(o *origination.Origination) { o.Instances = nil }, "instances: 0 of them"},
		{"too many instances", func(o *origination.Origination) { o.Instances = make([]string, 17) }, "instances: 17 of them"},
		{"an instance twice", func(o *origination.Origination) { o.Instances = []string{"a", "a"} }, "instances: must be sorted and distinct"},
		{"an instance of no name", func(o *origination.Origination) { o.Instances = []string{"A/b"} }, `instances: "A/b": the part before`},
		{"a host in the cluster", func(o *origination.Origination) { o.Host = "kubernetes.default.svc" }, "host: \"kubernetes.default.svc\" is a name inside the cluster"},
		{"a host in another form", func(o *origination.Origination) { o.Host = "A.example.com" }, "host: \"A.example.com\" is not in normal form"},
		{"no host", func(o *origination.Origination) { o.Host = "" }, "host: \"\" has an empty part"},
		{"a path for a host", func(o *origination.Origination) { o.Host = "../../etc" }, "host: \"../../etc\" has"},
		{"a synthesised host without addresses", func(o *origination.Origination) { o.HostSynthesised = true }, "does not follow from the addresses"},
		{"another host than the addresses give", func(o *origination.Origination) { o.HostSynthesised, o.Addresses = true, prefixes("10.0.0.3") }, "does not follow from the addresses"},
		{"a metadata address", func(o *origination.Origination) { o.Addresses = prefixes("169.254.169.254") }, "addresses: \"169.254.169.254/32\" is in 169.254.0.0/16"},
		{"everything", func(o *origination.Origination) { o.Addresses = prefixes("0.0.0.0/0") }, "addresses: \"0.0.0.0/0\" contains"},
		{"a range with bits beyond its length", func(o *origination.Origination) { o.Addresses = prefixes("10.0.0.3/24") }, "is not a plain, masked range"},
		{"a mapped address", func(o *origination.Origination) {
			o.Addresses = []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.3"), 128)}
		}, "is not a plain, masked range"},
		{"an address that is none", func(o *origination.Origination) { o.Addresses = make([]netip.Prefix, 1) }, "is not a plain, masked range"},
		{"addresses out of order", func(o *origination.Origination) { o.Addresses = prefixes("10.0.0.4", "10.0.0.3") }, "addresses: must be sorted"},
		{"an address within another", func(o *origination.Origination) { o.Addresses = prefixes("10.0.0.0/24", "10.0.0.3") }, "addresses: must be sorted, and none within another"},
		{"too many addresses", func(o *origination.Origination) { o.Addresses = make([]netip.Prefix, 65) }, "addresses: 65 of them"},
		{"no port", func(o *origination.Origination) { o.Ports = nil }, "ports: 0 with TLS"},
		{"too many ports", func(o *origination.Origination) { o.Ports = make([]origination.Port, 257) }, "ports: 257 with TLS"},
		{"too many ports passed through", func(o *origination.Origination) { o.Passthrough = make([]int32, 273) }, "273 passed through are none or too many"},
		{"ports out of order", func(o *origination.Origination) {
			o.Ports = []origination.Port{{Number: 2, Target: 2}, {Number: 1, Target: 1}}
		}, "ports: must be sorted"},
		{"a port beyond all", func(o *origination.Origination) { o.Ports = []origination.Port{{Number: 70000, Target: 6380}} }, "ports: 70000 must be a port number"},
		{"a port below all", func(o *origination.Origination) { o.Ports = []origination.Port{{Number: -1, Target: 6380}} }, "ports: -1 must be a port number"},
		{"a port of the sidecar", func(o *origination.Origination) { o.Ports = []origination.Port{{Number: 15001, Target: 6380}} }, "ports: 15001 is a port of the sidecar"},
		{"a target beyond all", func(o *origination.Origination) { o.Ports[0].Target = 65536 }, "ports: target 65536 must be"},
		{"a target without a pin", func(o *origination.Origination) {
			o.Pin, o.Passthrough, o.Addresses = nil, nil, prefixes("10.0.0.3", "10.0.0.4")
		}, "leads to 6380, which needs a pinned host"},
		{"a port with TLS passed through", func(o *origination.Origination) { o.Passthrough = []int32{6379} }, "passthrough: port 6379 has TLS"},
		{"passthrough out of order", func(o *origination.Origination) { o.Passthrough = []int32{2, 1} }, "passthrough: must be sorted"},
		{"passthrough on a port of the sidecar", func(o *origination.Origination) { o.Passthrough = []int32{15090} }, "ports: 15090 is a port of the sidecar"},
		{"passthrough without a pin", func(o *origination.Origination) { o.Pin, o.Addresses = nil, prefixes("10.0.0.0/28") }, "passthrough: needs a pinned host"},
		{"another protocol", func(o *origination.Origination) { o.Protocol = "grpc" }, "protocol: \"grpc\" is not supported yet"},
		{"http at the TLS port", func(o *origination.Origination) {
			o.Protocol, o.Ports[0] = "http", origination.Port{Number: 6380, Target: 6380}
		}, "ports: port 6380 is one of TLS"},
		{"http at the port of HTTPS", func(o *origination.Origination) { o.Protocol, o.Ports[0].Number = "http", 443 }, "ports: port 443 is one of TLS"},
		{"http to an address", func(o *origination.Origination) { o.Protocol, o.Addresses = "http", prefixes("10.0.0.3") }, "addresses: cannot go with protocol http"},
		{"another mode", func(o *origination.Origination) { o.TLS.Mode = "disable" }, "mode: \"disable\" is not supported yet"},
		{"a key of no object", func(o *origination.Origination) { o.TLS.CAKey = "ca.crt" }, "caKey: is a key of no object"},
		{"a CA in two places", func(o *origination.Origination) {
			o.TLS.CASecret, o.TLS.CAConfigMap, o.TLS.CAKey = "ca", "ca", "ca.crt"
		}, "caConfigMap: stands beside a Secret"},
		{"a path for a ConfigMap", func(o *origination.Origination) { o.TLS.CAConfigMap, o.TLS.CAKey = "../x", "ca.crt" }, "caConfigMap: \"../x\" is not the name of a ConfigMap"},
		{"a path for a client's Secret", func(o *origination.Origination) { o.TLS.Mode, o.TLS.ClientSecret = origination.ModeMutual, "../x" }, "clientSecret: \"../x\" is not the name of a Secret"},
		{"mutual without a client certificate", func(o *origination.Origination) { o.TLS.Mode = origination.ModeMutual }, "clientSecret: goes with mode mutual"},
		{"a client certificate that nobody is shown", func(o *origination.Origination) { o.TLS.ClientSecret = "client" }, "clientSecret: goes with mode mutual"},
		{"secret discovery of nothing", func(o *origination.Origination) { o.TLS.SDS = true }, "delivery: has nothing to deliver"},
		{"secret discovery of another key", func(o *origination.Origination) { o.TLS.SDS, o.TLS.CASecret, o.TLS.CAKey = true, "ca", "ca.pem" }, "ca-key: is no key that Istio's"},
		{"secret discovery of a CA elsewhere", func(o *origination.Origination) {
			o.TLS = origination.TLS{Mode: origination.ModeMutual, SDS: true, ClientSecret: "client", CAConfigMap: "trust", CAKey: "ca.crt", SNI: "a.example.com", SubjectAltNames: []string{"a.example.com"}}
		}, "ca-configmap: is not where Istio's"},
		{"an issuer without a service account", signedAs(func(o *origination.Origination) { o.TLS.ServiceAccount = "" }), "serviceAccount: \"\" is not the name of a ServiceAccount"},
		{"a service account without an issuer", func(o *origination.Origination) { o.TLS.ServiceAccount = "cart" }, "serviceAccount: goes with an issuer alone"},
		{"another Secret than the issuer's certificate's", signedAs(func(o *origination.Origination) { o.TLS.ClientSecret = "other" }), "clientSecret: \"other\" is not that of the issuer's certificate"},
		{"an issuer of no name", signedAs(func(o *origination.Origination) { o.TLS.Issuer.Name = "" }), "issuer: \"\" is not the name of an issuer"},
		{"an issuer of no kind", signedAs(func(o *origination.Origination) { o.TLS.Issuer.Kind = "a/b" }), "issuer: kind \"a/b\" is not a kind"},
		{"an issuer that cert-manager has not", signedAs(func(o *origination.Origination) { o.TLS.Issuer.Kind = "VaultIssuer" }), "issuer: kind \"VaultIssuer\" is none of the issuers"},
		{"an issuer of no group", signedAs(func(o *origination.Origination) { o.TLS.Issuer.Group = "" }), "issuer: group \"\" is not an API group"},
		{"an issuer that the policy does not name", signedAs(func(o *origination.Origination) { o.TLS.Issuer.Kind = "ClusterIssuer" }), "issuer: \"ClusterIssuer.cert-manager.io/redis\" is not among"},
		{"an issuer beside a Certificate", signedAs(func(o *origination.Origination) { o.TLS.Certificate = "client" }), "issuer: stands beside a Certificate"},
		{"a path for a Certificate", func(o *origination.Origination) { o.TLS.Certificate = "../x" }, "certificate: \"../x\" is not the name"},
		{"a Certificate without its Secret", func(o *origination.Origination) { o.TLS.Certificate = "client" }, "certificate: needs the Secret that it gives"},
		{"any certificate, against the policy", func(o *origination.Origination) { o.TLS.InsecureSkipVerify, o.TLS.SubjectAltNames = true, nil }, "insecure-skip-verify: this cluster does not allow it"},
		{"any certificate beside names", func(o *origination.Origination) { o.TLS.InsecureSkipVerify = true }, "insecureSkipVerify: goes with neither"},
		{"a timeout of no length", func(o *origination.Origination) { o.Connection.ConnectTimeout = &metav1.Duration{} }, "connectTimeout: 0s must be a duration"},
		{"an idle timeout below all", func(o *origination.Origination) { o.Connection.IdleTimeout = &metav1.Duration{Duration: -time.Second} }, "idleTimeout: -1s must be a duration"},
		{"a keepalive that says nothing", func(o *origination.Origination) { o.Connection.Keepalive = &origination.Keepalive{} }, "keepalive: \"\" says nothing"},
		{"a path for a Secret", func(o *origination.Origination) { o.TLS.CASecret, o.TLS.CAKey = "../x", "ca.crt" }, "caSecret: \"../x\" is not the name"},
		{"a path for a key", func(o *origination.Origination) { o.TLS.CASecret, o.TLS.CAKey = "ca", "../ca.crt" }, "caKey: \"../ca.crt\" is not a key"},
		{"a Secret without a key", func(o *origination.Origination) { o.TLS.CASecret = "ca" }, "caKey: \"\" is not a key"},
		{"no server name for DNS", func(o *origination.Origination) { o.TLS.SNI = "" }, "sni: must be given"},
		{"a server name in another form", func(o *origination.Origination) { o.TLS.SNI = "A.example.com" }, "sni: \"A.example.com\" is not in normal form"},
		{"an address as server name", func(o *origination.Origination) { o.TLS.SNI = "10.0.0.3" }, "sni: \"10.0.0.3\" is an address"},
		{"no name to check for DNS", func(o *origination.Origination) { o.TLS.SubjectAltNames = nil }, "subjectAltNames: must be given"},
		{"no name to check for DNS with a CA", func(o *origination.Origination) {
			o.TLS.SubjectAltNames, o.TLS.CASecret, o.TLS.CAKey = nil, "ca", "ca.crt"
		}, "subjectAltNames: must be given"},
		{"no name to check with system roots", func(o *origination.Origination) { *o = dialledByAddress(); o.TLS.CASecret, o.TLS.CAKey = "", "" }, "subjectAltNames: must be given"},
		{"names out of order", func(o *origination.Origination) { o.TLS.SubjectAltNames = []string{"b.example.com", "a.example.com"} }, "subjectAltNames: must be sorted"},
		{"too many names", func(o *origination.Origination) { o.TLS.SubjectAltNames = make([]string, 33) }, "at most 32"},
		{"a wildcard as name", func(o *origination.Origination) { o.TLS.SubjectAltNames = []string{"*.example.com"} }, "subjectAltNames: \"*.example.com\" is a wildcard"},
		{"a name in another form", func(o *origination.Origination) { o.TLS.SubjectAltNames = []string{"A.example.com"} }, "\"A.example.com\" is not in normal form"},
		{"a pin on somebody's address", func(o *origination.Origination) { o.Pin[0] = netip.MustParseAddr("10.0.0.5") }, "pin: 10.0.0.5 is outside the range of pins"},
		{"a pin on somebody's IPv6 address", func(o *origination.Origination) { o.Pin[1] = netip.MustParseAddr("2001:db8::5") }, "pin: 2001:db8::5 is outside"},
		{"a pin in IPv6 clothes", func(o *origination.Origination) { o.Pin[0] = netip.MustParseAddr("::ffff:240.241.7.31") }, "is outside the range of pins"},
		{"a pin that is none", func(o *origination.Origination) { o.Pin[0] = netip.Addr{} }, "is outside the range of pins"},
		{"two pins of one family", func(o *origination.Origination) { o.Pin[1] = netip.MustParseAddr("240.241.7.32") }, "pin: must be one IPv4 address"},
		{"an IPv6 pin alone", func(o *origination.Origination) { o.Pin = o.Pin[1:] }, "pin: must be one IPv4 address"},
		{"a pin where the app dials an address", func(o *origination.Origination) { *o = dialledByAddress(); o.Pin = pinnedByName().Pin }, "pin: has nothing to be pinned"},
		{"a host that the policy denies", func(o *origination.Origination) { o.Host = "denied.example.org" }, "host: \"denied.example.org\" is not among the hosts"},
		{"an address that the policy denies", func(o *origination.Origination) {
			*o = dialledByAddress()
			o.Addresses, o.Host = prefixes("192.0.2.1"), "ip-192-0-2-1"
		}, "addresses: \"192.0.2.1\" is not among the ranges"},
		{"a target that the policy denies", func(o *origination.Origination) { o.Ports[0].Target, o.Passthrough = 7000, nil }, "target-port: \"7000\" is not among the ports"},
		{"a passthrough that the policy denies", func(o *origination.Origination) { o.Passthrough = []int32{22} }, "passthrough-ports: \"22\" is not among the ports"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := pinsInBothFamilies()
			cfg.Policy.AllowedHosts = []string{"*.example.com"}
			cfg.Policy.AllowedCIDRs = prefixes("10.0.0.0/8")
			cfg.Policy.AllowedPorts = []string{"6379-6380", "26379"}
			for _, o := range []origination.Origination{pinnedByName(), dialledByAddress()} {
				if err := ValidateOrigination(&o, "shop", cfg); err != nil {
					t.Fatalf("refused unspoilt: %v", err)
				}
			}
			o := pinnedByName()
			test.spoil(&o)
			err := ValidateOrigination(&o, "shop", cfg)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want %q", err, test.want)
			}
			if !strings.Contains(err.Error(), fmt.Sprintf("origination to %q: ", o.Host)) {
				t.Errorf("%v does not name the host", err)
			}
		})
	}
}

func TestAPinNeedsARangeOfItsFamily(t *testing.T) {
	v6 := netip.MustParsePrefix("fd00:240:241::/112")
	alone := withConfig(func(c *config.Config) { c.VIP = config.VIP{IPv6CIDR: &v6} })
	o := pinnedByName()
	for outside, cfg := range map[string]config.Config{"fd00:240:241::31": config.Default(), "240.241.7.31": alone} {
		if err := ValidateOrigination(&o, "shop", cfg); err == nil || !strings.Contains(err.Error(), outside+" is outside the range of pins") {
			t.Errorf("%v: error %v", cfg.VIP, err)
		}
	}
	o.Pin = o.Pin[1:]
	if err := ValidateOrigination(&o, "shop", alone); err != nil {
		t.Errorf("IPv6 alone: %v", err)
	}
}

// signedAs has an issuer's certificate, and spoils it.
func signedAs(spoil func(*origination.Origination)) func(*origination.Origination) {
	return func(o *origination.Origination) {
		signed(origination.Issuer{Kind: "Issuer", Group: "cert-manager.io", Name: "redis"}, "")(o)
		o.TLS.ClientSecret = o.CertificateName()
		o.TLS.CASecret = o.TLS.ClientSecret
		spoil(o)
	}
}
