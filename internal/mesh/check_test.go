package mesh_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// said returns problems as "Reason: message".
func said(problems []origination.Problem) []string {
	var out []string
	for _, p := range problems {
		out = append(out, string(p.Reason)+": "+p.Err.Error())
	}
	return out
}

// bytesRoute is a user's VirtualService with a TCP route.
func bytesRoute(name, host string) *networkingv1.VirtualService {
	v := theirRoute(name, []string{"x.example.com", host}, nil)
	v.Spec.Tcp = []*networkingapi.TCPRoute{{}}
	return v
}

func gatewayRoute(name, host string) *networkingv1.VirtualService {
	v := bytesRoute(name, host)
	v.Spec.Gateways = []string{"istio-system/egress"}
	return v
}

func TestCheckAgainstForeignObjects(t *testing.T) {
	const a = "a.example.com"
	named := func(name string) func(*networkingv1.ServiceEntry) {
		return func(e *networkingv1.ServiceEntry) { e.Name = name }
	}
	theirs := func(host string, labels map[string]string) *networkingv1.DestinationRule {
		return theirRule("shop/theirs", host, func(r *networkingv1.DestinationRule) { r.Labels = labels })
	}
	hosts := func(hosts ...string) func(*networkingv1.ServiceEntry) {
		return func(e *networkingv1.ServiceEntry) { e.Spec.Hosts = hosts }
	}
	dns, ip := redis(a, pinned("240.241.0.9")), redis("ip-10-0-0-3", at("10.0.0.3/32"))
	cidr := redis("ip-cidr", at("10.0.0.0/24"))
	sameName := redis(a)
	takenRule := theirs("other.example.com", nil)
	takenRule.Name = sameName.RuleName()
	for name, c := range map[string]struct {
		o        origination.Origination
		around   *mesh.Snapshot
		want     []string
		warnings []string
	}{
		"an entry at the same address and port": {
			o:      ip,
			around: surroundings(entry("shop/theirs", listing("10.0.0.3"))),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/addresses]: Invalid value: "10.0.0.3": ServiceEntry shop/theirs has the same address and port 6379; a connection can be led by one of the two only, so delete it or leave the annotation out`},
		},
		"an entry at a CIDR around it": {
			o:      ip,
			around: surroundings(entry("other/theirs", listing("10.0.0.0/8"))),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/addresses]: Invalid value: "10.0.0.3": ServiceEntry other/theirs has the same address and port 6379; a connection can be led by one of the two only, so delete it or leave the annotation out`},
		},
		"an entry at an address within our CIDR": {
			o:      cidr,
			around: surroundings(entry("shop/theirs", listing("10.0.0.77"), withPort(6379, "HTTP"))),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/addresses]: Invalid value: "10.0.0.0/24": ServiceEntry shop/theirs has the same address and port 6379; a connection can be led by one of the two only, so delete it or leave the annotation out`},
		},
		"the address listed beside a VIP counts too": {
			o:      redis(a, at("10.0.0.3/32"), pinned("240.241.0.9")),
			around: surroundings(entry("shop/theirs", listing("10.0.0.3"))),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/addresses]: Invalid value: "10.0.0.3": ServiceEntry shop/theirs has the same address and port 6379; a connection can be led by one of the two only, so delete it or leave the annotation out`},
		},
		"with a target port the address is not listed": {
			o:      redis(a, at("10.0.0.3/32"), port(6379, 6380), pinned("240.241.0.9")),
			around: surroundings(entry("shop/theirs", listing("10.0.0.3"))),
		},
		"an entry at the same address and another port": {
			o:      ip,
			around: surroundings(entry("shop/theirs", listing("10.0.0.3"), withPort(6380, "TCP"))),
		},
		"an entry at the same address and port of UDP": {
			o:      ip,
			around: surroundings(entry("shop/theirs", listing("10.0.0.3"), withPort(6379, "UDP"))),
		},
		"an entry at another address": {
			o:      ip,
			around: surroundings(entry("shop/theirs", listing("10.0.0.4", "not an address"))),
		},
		"an entry that the namespace does not see": {
			o:      ip,
			around: surroundings(entry("other/theirs", listing("10.0.0.3"), exportedTo("."))),
		},
		"an entry exported to other namespaces only": {
			o:      ip,
			around: surroundings(entry("other/theirs", listing("10.0.0.3"), exportedTo("pay"))),
		},
		"an entry hidden even from its own namespace": {
			o:      ip,
			around: surroundings(entry("shop/theirs", listing("10.0.0.3"), exportedTo("~"))),
		},
		"an entry without addresses, the claim one address": {
			o:      ip,
			around: surroundings(entry("shop/theirs")),
		},
		"an entry without addresses, the claim by DNS": {
			o:      dns,
			around: surroundings(entry("shop/theirs")),
		},
		"an HTTP entry without addresses, the claim a CIDR": {
			o:      cidr,
			around: surroundings(entry("shop/theirs", withPort(6379, "HTTP"))),
		},
		"several addresses open no 0.0.0.0": {
			o:      redis("ip-several", at("10.0.0.3/32", "10.0.0.4/32")),
			around: surroundings(entry("shop/theirs")),
		},
		"a CIDR around the VIP does no harm": {
			o:      dns,
			around: surroundings(entry("shop/theirs", listing("240.0.0.0/4"))),
		},
		"a wildcard entry above our private host does no harm": {
			o:      dns,
			around: surroundings(entry("shop/theirs", hosts("*.redis-tls.internal"))),
		},
		"a TCP entry without addresses, the claim a CIDR": {
			o:      cidr,
			around: surroundings(entry("shop/theirs")),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/addresses]: Invalid value: "10.0.0.0/24": a CIDR is served at 0.0.0.0:6379, and so is ServiceEntry shop/theirs, which has this TCP port and no addresses; give it addresses`},
		},
		"an entry exported to this namespace by name, with a sniffed protocol": {
			o:      cidr,
			around: surroundings(entry("other/theirs", exportedTo("shop"), withPort(6379, ""))),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/addresses]: Invalid value: "10.0.0.0/24": a CIDR is served at 0.0.0.0:6379, and so is ServiceEntry other/theirs, which has this TCP port and no addresses; give it addresses`},
		},
		"an entry at the very VIP": {
			o:      dns,
			around: surroundings(entry("shop/theirs", listing("240.241.0.9"))),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]: Invalid value: "a.example.com": ServiceEntry shop/theirs has the address 240.241.0.9 and port 6379, to which the pod is pinned for this host; give it another address`},
		},
		"an entry of our private host": {
			o:      dns,
			around: surroundings(entry("other/theirs", hosts("x.example.com", dns.PrivateHost()), withPort(1, "TCP"))),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]: Invalid value: "a.example.com": ServiceEntry other/theirs has the host ` + dns.PrivateHost() + `, which is a private one of redis-tls; delete it`},
		},
		"our label in another namespace makes no entry ours": {
			o: ip,
			around: surroundings(entry("other/theirs", listing("10.0.0.3"), func(e *networkingv1.ServiceEntry) {
				e.Labels = map[string]string{"app.kubernetes.io/managed-by": "redis-tls"}
			})),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/addresses]: Invalid value: "10.0.0.3": ServiceEntry other/theirs has the same address and port 6379; a connection can be led by one of the two only, so delete it or leave the annotation out`},
		},
		"a rule for our private host": {
			o:      dns,
			around: surroundings(theirs(dns.PrivateHost(), nil)),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]: Invalid value: "a.example.com": DestinationRule shop/theirs is for the host ` + dns.PrivateHost() + `, which is a private one of redis-tls; delete it, or put its settings into annotations`},
		},
		"a rule for all private hosts of the key": {
			o:      dns,
			around: surroundings(theirs(dns.PrivateHosts(), nil)),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]: Invalid value: "a.example.com": DestinationRule shop/theirs is for the host ` + dns.PrivateHosts() + `, which is a private one of redis-tls; delete it, or put its settings into annotations`},
		},
		"a rule for the private host of an address": {
			o:      ip,
			around: surroundings(theirs(ip.Atoms()[0].Host(), nil)),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]: Invalid value: "ip-10-0-0-3": DestinationRule shop/theirs is for the host ` + ip.Atoms()[0].Host() + `, which is a private one of redis-tls; delete it, or put its settings into annotations`},
		},
		"a route of TCP for a wildcard above it": {
			o:      dns,
			around: surroundings(bytesRoute("shop/theirs", "*.internal")),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]: Invalid value: "a.example.com": VirtualService shop/theirs routes *.internal, which takes connections to ` + dns.PrivateHost() + ` past the TLS of redis-tls; leave redis-tls.internal out of its hosts`},
		},
		"a route of TCP for it from another namespace": {
			o:      dns,
			around: surroundings(bytesRoute("other/theirs", dns.PrivateHost())),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]: Invalid value: "a.example.com": VirtualService other/theirs routes ` + dns.PrivateHost() + `, which takes connections to ` + dns.PrivateHost() + ` past the TLS of redis-tls; leave redis-tls.internal out of its hosts`},
		},
		"a route of TCP for an address's": {
			o:      ip,
			around: surroundings(bytesRoute("shop/theirs", "*.internal")),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]: Invalid value: "ip-10-0-0-3": VirtualService shop/theirs routes *.internal, which takes connections to ` + ip.Atoms()[0].Host() + ` past the TLS of redis-tls; leave redis-tls.internal out of its hosts`},
		},
		"a route of HTTP for a wildcard above it": {
			o:      dns,
			around: surroundings(theirRoute("shop/theirs", []string{"*.internal"}, nil)),
		},
		"a route of TCP for gateways": {
			o:      dns,
			around: surroundings(gatewayRoute("shop/theirs", "*.internal")),
		},
		"a route of TCP for another host": {
			o:      dns,
			around: surroundings(bytesRoute("shop/theirs", a)),
		},
		"our own rule for it": {
			o:      dns,
			around: surroundings(theirs(dns.PrivateHosts(), map[string]string{"app.kubernetes.io/managed-by": "redis-tls"})),
		},
		"a rule for a wildcard": {
			o:      dns,
			around: surroundings(theirs("*.redis-tls.internal", nil)),
		},
		"a rule for the real one": {
			o:      dns,
			around: surroundings(theirs(a, nil)),
		},
		"our own entry": {
			o:      ip,
			around: surroundings(applied(1, claim("cart", "1", 1, ip))),
		},
		"objects of our names without our label": {
			o:      dns,
			around: surroundings(entry("shop/theirs", named(sameName.EntryName()), withPort(1, "TCP")), takenRule),
			warnings: []string{
				"metadata.annotations[redis-tls/host]: ServiceEntry shop/" + sameName.EntryName() + " has the name of ours but not the label app.kubernetes.io/managed-by: redis-tls, so it is left as it is and a.example.com cannot be reached; delete it",
				"metadata.annotations[redis-tls/host]: DestinationRule shop/" + sameName.RuleName() + " has the name of ours but not the label app.kubernetes.io/managed-by: redis-tls, so it is left as it is and a.example.com cannot be reached; delete it"},
		},
		"an entry of our name in another namespace": {
			o:      dns,
			around: surroundings(entry("other/theirs", named(sameName.EntryName()), withPort(1, "TCP"))),
		},
	} {
		t.Run(name, func(t *testing.T) {
			problems, warnings := check(c.o, nil, c.around)
			if diff := cmp.Diff(c.want, said(problems)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.warnings, warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}
