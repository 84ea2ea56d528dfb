package mesh_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
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

func TestCheckAgainstOtherClaims(t *testing.T) {
	const a = "a.example.com"
	cart := mesh.Workload{Kind: "Deployment", Name: "cart"}
	pay := func(o origination.Origination) []mesh.Claim { return []mesh.Claim{claim("pay", "1", 1, o)} }
	for name, c := range map[string]struct {
		o      origination.Origination
		claims []mesh.Claim
		around mesh.Surroundings
		want   []string
	}{
		"nobody else claims anything":                     {o: redis(a)},
		"another workload claims the same":                {o: redis(a), claims: pay(redis(a, pinned("240.241.0.1")))},
		"another workload has further ports":              {o: redis(a), claims: pay(redis(a, port(26379, 26379), pinned("240.241.0.1")))},
		"another workload has other TLS settings":         {o: redis(a), claims: pay(redis(a, pinned("240.241.0.1"), func(o *origination.Origination) { o.TLS.CASecret, o.TLS.CAKey = "s", "k" }))},
		"a port with TLS is passed through for another":   {o: redis(a, port(6380, 6380)), claims: pay(redis(a, passthrough(6380), pinned("240.241.0.1")))},
		"another workload's claim on another host by DNS": {o: redis(a), claims: pay(redis("b.example.com", port(6379, 6380), pinned("240.241.0.1")))},
		"another target of a port": {o: redis(a, port(6379, 6380)), claims: pay(redis(a, pinned("240.241.0.1"))), want: []string{
			`Conflict: metadata.annotations[redis-tls/target-port]: Invalid value: "6380": Deployment/cart leads port 6379 of a.example.com to 6380, and Deployment/pay to 6379; make them equal`}},
		"a passed-through port of another target": {o: redis(a, port(26379, 26379), passthrough(6380)), claims: pay(redis(a, port(6380, 6381), pinned("240.241.0.1"))), want: []string{
			`Conflict: metadata.annotations[redis-tls/target-port]: Invalid value: "6380": Deployment/cart leads port 6380 of a.example.com to 6380, and Deployment/pay to 6381; make them equal`}},
		"by DNS and at an address": {o: redis(a), claims: pay(redis(a, at("10.0.0.3/32"), pinned("240.241.0.1"))), want: []string{
			`Conflict: metadata.annotations[redis-tls/addresses]: Invalid value: "by DNS": Deployment/cart reaches a.example.com by DNS, and Deployment/pay at 10.0.0.3; make them equal, or use another host name`}},
		"at different addresses": {o: redis(a, at("10.0.0.4/32")), claims: pay(redis(a, at("10.0.0.3/32"), pinned("240.241.0.1"))), want: []string{
			`Conflict: metadata.annotations[redis-tls/addresses]: Invalid value: "at 10.0.0.4": Deployment/cart reaches a.example.com at 10.0.0.4, and Deployment/pay at 10.0.0.3; make them equal, or use another host name`}},
		"another protocol": {o: redis(a, func(o *origination.Origination) { o.Protocol = "mongo" }), claims: pay(redis(a, pinned("240.241.0.1"))), want: []string{
			`Conflict: metadata.annotations[redis-tls/protocol]: Invalid value: "mongo": Deployment/cart has protocol mongo for a.example.com, and Deployment/pay has tcp; make them equal`}},
		"a target port would take the address out of another's entry": {o: redis(a, at("10.0.0.3/32"), port(6380, 6378)),
			claims: pay(redis(a, at("10.0.0.3/32"), pinned("240.241.0.1"))), want: []string{
				`Conflict: metadata.annotations[redis-tls/target-port]: Invalid value: "6379,6380→6378": one of Deployment/cart (ports 6379,6380→6378) and Deployment/pay (ports 6379) has a target port that differs, so that at 10.0.0.3 itself must not be led anywhere, and the other has none; make them equal, or use another host name`}},
		"the same address and port under two hosts": {o: redis("ip-10-0-0-3", at("10.0.0.3/32"), instance("cache")), claims: pay(redis(a, at("10.0.0.0/24"))), want: []string{
			`Conflict: metadata.annotations[cache.redis-tls/addresses]: Invalid value: "10.0.0.3": Deployment/cart claims it for ip-10-0-0-3, and Deployment/pay has the same address and port 6379 for a.example.com; give both the same host and settings`}},
		"the same address with another port under two hosts": {o: redis("ip-10-0-0-3", at("10.0.0.3/32"), func(o *origination.Origination) { o.Ports[0] = origination.Port{Number: 6380, Target: 6380} }), claims: pay(redis(a, at("10.0.0.0/24")))},
		"the same address where a target port keeps it out":  {o: redis("ip-10-0-0-3", at("10.0.0.3/32")), claims: pay(redis(a, at("10.0.0.3/32"), port(6379, 6380), pinned("240.241.0.1")))},
		"its own older revision may say anything":            {o: redis(a, port(6379, 6380)), claims: []mesh.Claim{claim("cart", "1", 1, redis(a, at("10.0.0.3/32"), pinned("240.241.0.1")))}},
		"its own older revision under another host with the same address": {o: redis(a, at("10.0.0.3/32")),
			claims: []mesh.Claim{claim("cart", "1", 1, redis("ip-10-0-0-3", at("10.0.0.3/32")))}},
		"an address that another's older revision left is still in use": {o: redis("ip-10-0-0-3", at("10.0.0.3/32")),
			claims: []mesh.Claim{
				claim("pay", "1", 1, redis(a, at("10.0.0.0/24"))),
				claim("pay", "2", 2, redis(a, pinned("240.241.0.1"))),
			},
			want: []string{`Conflict: metadata.annotations[redis-tls/addresses]: Invalid value: "10.0.0.3": Deployment/cart claims it for ip-10-0-0-3, and Deployment/pay has the same address and port 6379 for a.example.com; give both the same host and settings`}},
		"the workload that was there first may change": {o: redis(a, port(6379, 6380)), claims: []mesh.Claim{
			claim("cart", "1", 1, redis(a, pinned("240.241.0.1"))), claim("pay", "1", 2, redis(a, pinned("240.241.0.1")))}},
		"the workload named in the entry may change, though the other has the older pod": {o: redis(a, port(6379, 6380)),
			claims: []mesh.Claim{claim("pay", "1", 1, redis(a, pinned("240.241.0.1"))), claim("cart", "1", 2, redis(a, pinned("240.241.0.1")))},
			around: surroundings(applied(1, claim("cart", "1", 1, redis(a, pinned("240.241.0.1")))))},
		"the entry's name does not count once the workload has no live pods": {o: redis(a, port(6379, 6380)),
			claims: pay(redis(a, pinned("240.241.0.1"))),
			around: surroundings(applied(1, claim("cart", "1", 1, redis(a, pinned("240.241.0.1"))))),
			want: []string{
				`Conflict: metadata.annotations[redis-tls/target-port]: Invalid value: "6380": Deployment/cart leads port 6379 of a.example.com to 6380, and Deployment/pay to 6379; make them equal`}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.around.Namespace == "" {
				c.around = surroundings()
			}
			problems, warnings := mesh.Check(c.o, cart, nil, c.claims, c.around)
			if diff := cmp.Diff(c.want, said(problems)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if len(warnings) > 0 {
				t.Errorf("warnings: %v", warnings)
			}
		})
	}
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
		around   mesh.Surroundings
		want     []string
		warnings []string
	}{
		"an entry at the same address and port": {o: ip, around: surroundings(entry("shop/theirs", listing("10.0.0.3"))), want: []string{
			`ForeignObject: metadata.annotations[redis-tls/addresses]: Invalid value: "10.0.0.3": ServiceEntry shop/theirs has the same address and port 6379; a connection can be led by one of the two only, so delete it or leave the annotation out`}},
		"an entry at a CIDR around it": {o: ip, around: surroundings(entry("other/theirs", listing("10.0.0.0/8"))), want: []string{
			`ForeignObject: metadata.annotations[redis-tls/addresses]: Invalid value: "10.0.0.3": ServiceEntry other/theirs has the same address and port 6379; a connection can be led by one of the two only, so delete it or leave the annotation out`}},
		"an entry at an address within our CIDR": {o: cidr, around: surroundings(entry("shop/theirs", listing("10.0.0.77"), withPort(6379, "HTTP"))), want: []string{
			`ForeignObject: metadata.annotations[redis-tls/addresses]: Invalid value: "10.0.0.0/24": ServiceEntry shop/theirs has the same address and port 6379; a connection can be led by one of the two only, so delete it or leave the annotation out`}},
		"the address listed beside a VIP counts too": {o: redis(a, at("10.0.0.3/32"), pinned("240.241.0.9")), around: surroundings(entry("shop/theirs", listing("10.0.0.3"))), want: []string{
			`ForeignObject: metadata.annotations[redis-tls/addresses]: Invalid value: "10.0.0.3": ServiceEntry shop/theirs has the same address and port 6379; a connection can be led by one of the two only, so delete it or leave the annotation out`}},
		"with a target port the address is not listed":         {o: redis(a, at("10.0.0.3/32"), port(6379, 6380), pinned("240.241.0.9")), around: surroundings(entry("shop/theirs", listing("10.0.0.3")))},
		"an entry at the same address and another port":        {o: ip, around: surroundings(entry("shop/theirs", listing("10.0.0.3"), withPort(6380, "TCP")))},
		"an entry at the same address and port of UDP":         {o: ip, around: surroundings(entry("shop/theirs", listing("10.0.0.3"), withPort(6379, "UDP")))},
		"an entry at another address":                          {o: ip, around: surroundings(entry("shop/theirs", listing("10.0.0.4", "not an address")))},
		"an entry that the namespace does not see":             {o: ip, around: surroundings(entry("other/theirs", listing("10.0.0.3"), exportedTo("."))), want: nil},
		"an entry exported to other namespaces only":           {o: ip, around: surroundings(entry("other/theirs", listing("10.0.0.3"), exportedTo("pay"))), want: nil},
		"an entry hidden even from its own namespace":          {o: ip, around: surroundings(entry("shop/theirs", listing("10.0.0.3"), exportedTo("~"))), want: nil},
		"an entry without addresses, the claim one address":    {o: ip, around: surroundings(entry("shop/theirs"))},
		"an entry without addresses, the claim by DNS":         {o: dns, around: surroundings(entry("shop/theirs"))},
		"an HTTP entry without addresses, the claim a CIDR":    {o: cidr, around: surroundings(entry("shop/theirs", withPort(6379, "HTTP")))},
		"several addresses open no 0.0.0.0":                    {o: redis("ip-several", at("10.0.0.3/32", "10.0.0.4/32")), around: surroundings(entry("shop/theirs"))},
		"a CIDR around the VIP does no harm":                   {o: dns, around: surroundings(entry("shop/theirs", listing("240.0.0.0/4")))},
		"a wildcard entry above our private host does no harm": {o: dns, around: surroundings(entry("shop/theirs", hosts("*.redis-tls.internal")))},
		"a TCP entry without addresses, the claim a CIDR": {o: cidr, around: surroundings(entry("shop/theirs")), want: []string{
			`ForeignObject: metadata.annotations[redis-tls/addresses]: Invalid value: "10.0.0.0/24": a CIDR is served at 0.0.0.0:6379, and so is ServiceEntry shop/theirs, which has this TCP port and no addresses; give it addresses`}},
		"an entry exported to this namespace by name, with a sniffed protocol": {o: cidr, around: surroundings(entry("other/theirs", exportedTo("shop"), withPort(6379, ""))), want: []string{
			`ForeignObject: metadata.annotations[redis-tls/addresses]: Invalid value: "10.0.0.0/24": a CIDR is served at 0.0.0.0:6379, and so is ServiceEntry other/theirs, which has this TCP port and no addresses; give it addresses`}},
		"an entry at the very VIP": {o: dns, around: surroundings(entry("shop/theirs", listing("240.241.0.9"))), want: []string{
			`ForeignObject: metadata.annotations[redis-tls/host]: Invalid value: "a.example.com": ServiceEntry shop/theirs has the address 240.241.0.9 and port 6379, to which the pod is pinned for this host; give it another address`}},
		"an entry of our private host": {o: dns, around: surroundings(entry("other/theirs", hosts("x.example.com", a+".redis-tls.internal"), withPort(1, "TCP"))), want: []string{
			`ForeignObject: metadata.annotations[redis-tls/host]: Invalid value: "a.example.com": ServiceEntry other/theirs has the host a.example.com.redis-tls.internal, which is ours; delete it`}},
		"our label in another namespace makes no entry ours": {o: ip, around: surroundings(entry("other/theirs", listing("10.0.0.3"), func(e *networkingv1.ServiceEntry) {
			e.Labels = map[string]string{"app.kubernetes.io/managed-by": "redis-tls"}
		})), want: []string{
			`ForeignObject: metadata.annotations[redis-tls/addresses]: Invalid value: "10.0.0.3": ServiceEntry other/theirs has the same address and port 6379; a connection can be led by one of the two only, so delete it or leave the annotation out`}},
		"a rule for our private host": {o: dns, around: surroundings(theirs(a+".redis-tls.internal", nil)), want: []string{
			`ForeignObject: metadata.annotations[redis-tls/host]: Invalid value: "a.example.com": DestinationRule shop/theirs is for the host a.example.com.redis-tls.internal, which is ours; delete it, or put its settings into annotations`}},
		"our own rule for it":     {o: dns, around: surroundings(theirs(a+".redis-tls.internal", map[string]string{"app.kubernetes.io/managed-by": "redis-tls"}))},
		"a rule for a wildcard":   {o: dns, around: surroundings(theirs("*.redis-tls.internal", nil))},
		"a rule for the real one": {o: dns, around: surroundings(theirs(a, nil))},
		"our own entry":           {o: ip, around: surroundings(applied(1, claim("cart", "1", 1, ip)))},
		"objects of our names without our label": {o: dns, around: surroundings(entry("shop/theirs", named(sameName.EntryName()), withPort(1, "TCP")), takenRule), warnings: []string{
			"metadata.annotations[redis-tls/host]: ServiceEntry shop/" + sameName.EntryName() + " has the name of ours but not the label app.kubernetes.io/managed-by: redis-tls, so it is left as it is and a.example.com cannot be reached; delete it",
			"metadata.annotations[redis-tls/host]: DestinationRule shop/" + sameName.RuleName() + " has the name of ours but not the label app.kubernetes.io/managed-by: redis-tls, so it is left as it is and a.example.com cannot be reached; delete it"}},
		"an entry of our name in another namespace": {o: dns, around: surroundings(entry("other/theirs", named(sameName.EntryName()), withPort(1, "TCP")))},
	} {
		t.Run(name, func(t *testing.T) {
			problems, warnings := mesh.Check(c.o, mesh.Workload{Kind: "Deployment", Name: "cart"}, nil, nil, c.around)
			if diff := cmp.Diff(c.want, said(problems)); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.warnings, warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}
