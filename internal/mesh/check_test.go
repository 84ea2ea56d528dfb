package mesh_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// texts returns the problems as users read them, each with its reason.
func texts(problems []origination.Problem) []string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, string(p.Reason)+": "+p.Err.Error())
	}
	return lines
}

// wantProblems compares reason and path, as in "Conflict: metadata.annotations[redis-tls/port]". A single empty text
// stands for no problem.
func wantProblems(t *testing.T, problems []origination.Problem, wanted ...string) {
	t.Helper()
	var got []string
	for _, p := range problems {
		got = append(got, string(p.Reason)+": "+p.Err.Field)
	}
	wanted = slices.DeleteFunc(slices.Clone(wanted), func(s string) bool { return s == "" })
	if diff := cmp.Diff(wanted, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

// wantWarnings compares the paths.
func wantWarnings(t *testing.T, warnings []string, wanted ...string) {
	t.Helper()
	var got []string
	for _, warning := range warnings {
		path, _, _ := strings.Cut(warning, ": ")
		got = append(got, path)
	}
	if diff := cmp.Diff(wanted, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// tcpRoute returns an unmanaged VirtualService with a TCP route.
func tcpRoute(name, host string) *networkingv1.VirtualService {
	v := userRoute(name, []string{"x.example.com", host}, nil)
	v.Spec.Tcp = []*networkingapi.TCPRoute{{}}
	return v
}

func gatewayRoute(name, host string) *networkingv1.VirtualService {
	v := tcpRoute(name, host)
	v.Spec.Gateways = []string{"istio-system/egress"}
	return v
}

func TestCheckAgainstUnmanagedObjects(t *testing.T) {
	messages := catalog.Open(t)
	const a = "a.example.com"
	named := func(name string) func(*networkingv1.ServiceEntry) {
		return func(e *networkingv1.ServiceEntry) { e.Name = name }
	}
	theirs := func(host string, labels map[string]string) *networkingv1.DestinationRule {
		return userRule("shop/theirs", host, func(r *networkingv1.DestinationRule) { r.Labels = labels })
	}
	hosts := func(hosts ...string) func(*networkingv1.ServiceEntry) {
		return func(e *networkingv1.ServiceEntry) { e.Spec.Hosts = hosts }
	}
	dns, ip := redis(a, pinned("240.241.0.9")), redis("ip-10-0-0-3", at("10.0.0.3/32"))
	cidr := redis("ip-cidr", at("10.0.0.0/24"))
	withNode := redis(a, pinned("240.241.0.9"))
	withNode.Nodes = []origination.Name{{Host: "a-1.example.com"}}
	service := redis("redis.data.svc.cluster.local", pinned("240.241.0.9"))
	service.Aliases = []string{"redis.data.svc", "redis.data"}
	sameName := redis(a)
	takenRule := theirs("other.example.com", nil)
	takenRule.Name = sameName.RuleName()
	for name, c := range map[string]struct {
		o        origination.Origination
		snap     *mesh.Snapshot
		want     []string
		warnings []string
	}{
		"an entry at the same address and port": {
			o:    ip,
			snap: snapshot(entry("shop/theirs", listing("10.0.0.3"))),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/addresses]`},
		},
		"an entry at a CIDR that contains the address": {
			o:    ip,
			snap: snapshot(entry("other/theirs", listing("10.0.0.0/8"))),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/addresses]`},
		},
		"an entry at an address within the CIDR": {
			o:    cidr,
			snap: snapshot(entry("shop/theirs", listing("10.0.0.77"), withPort(6379, "HTTP"))),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/addresses]`},
		},
		"the address of a pinned host counts too": {
			o:    redis(a, at("10.0.0.3/32"), pinned("240.241.0.9")),
			snap: snapshot(entry("shop/theirs", listing("10.0.0.3"))),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/addresses]`},
		},
		"with a target port the address is not listed": {
			o:    redis(a, at("10.0.0.3/32"), port(6379, 6380), pinned("240.241.0.9")),
			snap: snapshot(entry("shop/theirs", listing("10.0.0.3"))),
		},
		"an entry at the same address and another port": {
			o:    ip,
			snap: snapshot(entry("shop/theirs", listing("10.0.0.3"), withPort(6380, "TCP"))),
		},
		"an entry at the same address and port of UDP": {
			o:    ip,
			snap: snapshot(entry("shop/theirs", listing("10.0.0.3"), withPort(6379, "UDP"))),
		},
		"an entry at another address": {
			o:    ip,
			snap: snapshot(entry("shop/theirs", listing("10.0.0.4", "not an address"))),
		},
		"an entry that the namespace does not see": {
			o:    ip,
			snap: snapshot(entry("other/theirs", listing("10.0.0.3"), exportedTo("."))),
		},
		"an entry exported to other namespaces only": {
			o:    ip,
			snap: snapshot(entry("other/theirs", listing("10.0.0.3"), exportedTo("pay"))),
		},
		"an entry hidden even from its own namespace": {
			o:    ip,
			snap: snapshot(entry("shop/theirs", listing("10.0.0.3"), exportedTo("~"))),
		},
		"an entry without addresses, the origination has one address": {
			o:    ip,
			snap: snapshot(entry("shop/theirs")),
		},
		"an entry without addresses, the origination by DNS": {
			o:    dns,
			snap: snapshot(entry("shop/theirs")),
		},
		"an HTTP entry without addresses, the origination has a CIDR": {
			o:    cidr,
			snap: snapshot(entry("shop/theirs", withPort(6379, "HTTP"))),
		},
		"several addresses do not open 0.0.0.0": {
			o:    redis("ip-several", at("10.0.0.3/32", "10.0.0.4/32")),
			snap: snapshot(entry("shop/theirs")),
		},
		"a CIDR that contains the VIP is allowed": {
			o:    dns,
			snap: snapshot(entry("shop/theirs", listing("240.0.0.0/4"))),
		},
		"a wildcard entry above the private host is allowed": {
			o:    dns,
			snap: snapshot(entry("shop/theirs", hosts("*.redis-tls.internal"))),
		},
		"a TCP entry without addresses, the origination has a CIDR": {
			o:    cidr,
			snap: snapshot(entry("shop/theirs")),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/addresses]`},
		},
		"an entry exported to this namespace by name, with a sniffed protocol": {
			o:    cidr,
			snap: snapshot(entry("other/theirs", exportedTo("shop"), withPort(6379, ""))),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/addresses]`},
		},
		"an entry at the VIP": {
			o:    dns,
			snap: snapshot(entry("shop/theirs", listing("240.241.0.9"))),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]`},
		},
		"an entry for the private host": {
			o:    dns,
			snap: snapshot(entry("other/theirs", hosts("x.example.com", dns.PrivateHost()), withPort(1, "TCP"))),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]`},
		},
		"an entry with the managed label in another namespace": {
			o: ip,
			snap: snapshot(entry("other/theirs", listing("10.0.0.3"), func(e *networkingv1.ServiceEntry) {
				e.Labels = map[string]string{"app.kubernetes.io/managed-by": "redis-tls"}
			})),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/addresses]`},
		},
		"a rule for the private host": {
			o:    dns,
			snap: snapshot(theirs(dns.PrivateHost(), nil)),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]`},
		},
		"a rule for all private hosts of the key": {
			o:    dns,
			snap: snapshot(theirs(dns.PrivateHosts(), nil)),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]`},
		},
		"a rule for the private host of an address": {
			o:    ip,
			snap: snapshot(theirs(ip.Atoms()[0].Host(), nil)),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]`},
		},
		"a route of TCP for a wildcard above it": {
			o:    dns,
			snap: snapshot(tcpRoute("shop/theirs", "*.internal")),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]`},
		},
		"a route of TCP for the private host from another namespace": {
			o:    dns,
			snap: snapshot(tcpRoute("other/theirs", dns.PrivateHost())),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]`},
		},
		"a route of TCP for the private host of an address": {
			o:    ip,
			snap: snapshot(tcpRoute("shop/theirs", "*.internal")),
			want: []string{
				`UnmanagedObject: metadata.annotations[redis-tls/host]`},
		},
		"a route of HTTP for a wildcard above it": {
			o:    dns,
			snap: snapshot(userRoute("shop/theirs", []string{"*.internal"}, nil)),
		},
		"a route of TCP for gateways": {
			o:    dns,
			snap: snapshot(gatewayRoute("shop/theirs", "*.internal")),
		},
		"a route of TCP for another host": {
			o:    dns,
			snap: snapshot(tcpRoute("shop/theirs", "b.example.com")),
		},
		"a route of TCP for the real host": {
			o:        dns,
			snap:     snapshot(tcpRoute("shop/theirs", a)),
			warnings: []string{"metadata.annotations[redis-tls/host]"},
		},
		"a route for a wildcard above the real host, from another namespace": {
			o:        dns,
			snap:     snapshot(userRoute("other/theirs", []string{"*.example.com"}, []string{"mesh", "egress/redis"})),
			warnings: []string{"metadata.annotations[redis-tls/host]"},
		},
		"a route of TCP for a node": {
			o:        withNode,
			snap:     snapshot(tcpRoute("shop/theirs", "a-1.example.com")),
			warnings: []string{"metadata.annotations[redis-tls/host]"},
		},
		"a route by the short name of a Service": {
			o:        service,
			snap:     snapshot(userRoute("data/theirs", []string{"redis"}, nil)),
			warnings: []string{"metadata.annotations[redis-tls/host]"},
		},
		"a route by the short name of a Service of another namespace": {
			o:    service,
			snap: snapshot(userRoute("shop/theirs", []string{"redis"}, nil)),
		},
		"a route for the real host at gateways only": {
			o:    dns,
			snap: snapshot(gatewayRoute("shop/theirs", a)),
		},
		"a route for the real host that is not exported here": {
			o:    dns,
			snap: snapshot(userRoute("other/theirs", []string{a}, nil, ".")),
		},
		"a route for the name of an address that the app dials": {
			o:    ip,
			snap: snapshot(tcpRoute("shop/theirs", "ip-10-0-0-3")),
		},
		"a managed rule for it": {
			o:    dns,
			snap: snapshot(theirs(dns.PrivateHosts(), map[string]string{"app.kubernetes.io/managed-by": "redis-tls"})),
		},
		"a rule for a wildcard": {
			o:    dns,
			snap: snapshot(theirs("*.redis-tls.internal", nil)),
		},
		"a rule for the real host": {
			o:    dns,
			snap: snapshot(theirs(a, nil)),
		},
		"a managed entry": {
			o:    ip,
			snap: snapshot(applied(1, claim("cart", "1", 1, ip))),
		},
		"unmanaged objects with managed names": {
			o:    dns,
			snap: snapshot(entry("shop/theirs", named(sameName.EntryName()), withPort(1, "TCP")), takenRule),
			warnings: []string{
				"metadata.annotations[redis-tls/host]",
				"metadata.annotations[redis-tls/host]"},
		},
		"an entry with the managed name in another namespace": {
			o:    dns,
			snap: snapshot(entry("other/theirs", named(sameName.EntryName()), withPort(1, "TCP"))),
		},
	} {
		t.Run(name, func(t *testing.T) {
			problems, warnings := check(c.o, nil, c.snap)
			messages.Add(name, append(texts(problems), warnings...)...)
			wantProblems(t, problems, c.want...)
			wantWarnings(t, warnings, c.warnings...)
		})
	}
}
