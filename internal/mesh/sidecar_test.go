package mesh_test

import (
	"testing"
	"time"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// listener is an egress listener of a user's Sidecar.
type listener struct {
	port     uint32
	protocol string
	bind     string
	own      bool // captureMode: NONE
	hosts    []string
}

// sidecar is a user's Sidecar of the hour, with a selector if labels are given.
func sidecar(namespace, name string, hour int, labels map[string]string, listeners ...listener) *networkingv1.Sidecar {
	s := &networkingv1.Sidecar{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: name, CreationTimestamp: metav1.NewTime(day.Add(time.Duration(hour) * time.Hour)),
	}}
	if labels != nil {
		s.Spec.WorkloadSelector = &networkingapi.WorkloadSelector{Labels: labels}
	}
	for _, l := range listeners {
		e := &networkingapi.IstioEgressListener{Hosts: l.hosts, Bind: l.bind}
		if l.port != 0 {
			e.Port = &networkingapi.SidecarPort{Number: l.port, Protocol: l.protocol, Name: "p"}
		}
		if l.own {
			e.CaptureMode = networkingapi.CaptureMode_NONE
		}
		s.Spec.Egress = append(s.Spec.Egress, e)
	}
	return s
}

func TestCheckAgainstSidecars(t *testing.T) {
	messages := catalog.Open(t)
	const refused = "UnmanagedObject: metadata.annotations[redis-tls/host]"
	hosts := func(hosts ...string) listener { return listener{hosts: hosts} }
	narrow := hosts("istio-system/*")
	here := func(listeners ...listener) *mesh.Snapshot {
		return surroundings(sidecar("shop", "default", 1, nil, listeners...))
	}
	dns, cidr := redis("redis.example.com"), redis("redis.example.com", at("10.0.0.0/24"))
	private := dns.PrivateHost()
	app := map[string]string{"app": "cart"}
	for name, c := range map[string]struct {
		o      *origination.Origination
		around *mesh.Snapshot
		want   string
	}{
		"no Sidecar":                           {around: surroundings()},
		"a Sidecar without egress":             {around: here()},
		"all of all namespaces":                {around: here(hosts("*/*"))},
		"all of the own namespace":             {around: here(hosts("istio-system/*", "./*"))},
		"all of the own namespace by its name": {around: here(hosts("shop/*"))},
		"the private host itself":              {around: here(hosts("./" + private))},
		"the private host in any namespace":    {around: here(hosts("*/" + private))},
		"a wildcard above it":                  {around: here(hosts("./*.redis-tls.internal"))},
		"leaves it out": {
			around: here(narrow),
			want:   refused,
		},
		"the real host is not the private one": {
			around: here(hosts("./redis.example.com")),
			want:   refused,
		},
		"another namespace's": {
			around: here(hosts("other/*")),
			want:   refused,
		},
		"a wildcard below it": {
			around: here(hosts("./*." + private)),
			want:   refused,
		},
		"no namespace in a host means nothing": {
			around: here(hosts("*", private)),
			want:   refused,
		},
		"an exclusion of it": {
			around: here(hosts("*/*", "~./"+private)),
			want:   refused,
		},
		"an exclusion in every namespace": {
			around: here(hosts("*/*", "~/*.internal")),
			want:   refused,
		},
		"an exclusion of all before the include": {
			around: here(hosts("~*/*", "./*")),
			want:   refused,
		},
		"an exclusion of something else":    {around: here(hosts("*/*", "~./other.example.com"))},
		"an exclusion in another namespace": {around: here(hosts("*/*", "~other/*"))},
		"a listener of its own for the port": {
			around: here(listener{port: 6379, protocol: "TCP", hosts: []string{"./*"}}, narrow),
		},
		"a listener for another port": {
			around: here(listener{port: 80, protocol: "HTTP", hosts: []string{"./*"}}),
			want:   refused,
		},
		"listeners for other ports and one that has it": {
			around: here(listener{port: 80, protocol: "HTTP", hosts: []string{"other/*"}}, hosts("./*")),
		},
		"listeners for other ports and one that leaves out": {
			around: here(listener{port: 80, protocol: "HTTP", hosts: []string{"./*"}}, narrow),
			want:   refused,
		},
		"the port's listener leaves it out, a later has it": {
			around: here(listener{port: 6379, protocol: "TCP", hosts: []string{"other/*"}}, hosts("./*")),
		},
		"the same for a CIDR, whose 0.0.0.0 is then locked": {
			o:      &cidr,
			around: here(listener{port: 6379, protocol: "TCP", hosts: []string{"other/*"}}, hosts("./*")),
			want:   refused,
		},
		"a CIDR and a port listener that binds its own": {
			o:      &cidr,
			around: here(listener{port: 6379, protocol: "TCP", own: true, hosts: []string{"other/*"}}, hosts("./*")),
		},
		"the port's listener speaks HTTP": {
			around: here(listener{port: 6379, protocol: "HTTP", hosts: []string{"./*"}}),
			want:   refused,
		},
		"the port's listener speaks HTTP, a later has it all": {
			around: here(listener{port: 6379, protocol: "HTTP", hosts: []string{"./*"}}, hosts("./*")),
		},
		"the port's listener names Redis, which is TCP": {
			around: here(listener{port: 6379, protocol: "REDIS", hosts: []string{"./*"}}),
		},
		"a listener bound to an address of its own": {
			around: here(listener{port: 6379, protocol: "TCP", bind: "127.0.0.1", hosts: []string{"./*"}}),
			want:   refused,
		},
		"a listener that captures nothing": {
			around: here(listener{own: true, hosts: []string{"./*"}}),
			want:   refused,
		},

		"a selector that matches goes before one without": {
			around: surroundings(sidecar("shop", "wide", 1, nil, hosts("*/*")), sidecar("shop", "default", 2, app, narrow)),
			want:   refused,
		},
		"a selector that does not match does not count": {
			around: surroundings(sidecar("shop", "wide", 2, nil, hosts("*/*")), sidecar("shop", "default", 1, map[string]string{"app": "pay"}, narrow)),
		},
		"a label more than the pod has does not match": {
			around: surroundings(sidecar("shop", "default", 1, map[string]string{"app": "cart", "tier": ""}, narrow)),
		},
		"an empty selector matches and goes first": {
			around: surroundings(sidecar("shop", "wide", 1, nil, hosts("*/*")), sidecar("shop", "default", 2, map[string]string{}, narrow)),
			want:   refused,
		},
		"of two the older": {
			around: surroundings(sidecar("shop", "a", 2, nil, hosts("*/*")), sidecar("shop", "default", 1, nil, narrow)),
			want:   refused,
		},
		"of two as old the first by name": {
			around: surroundings(sidecar("shop", "a", 1, nil, hosts("*/*")), sidecar("shop", "default", 1, nil, narrow)),
		},
		"another namespace's Sidecar does not count": {
			around: surroundings(sidecar("other", "default", 1, nil, narrow)),
		},
		"the root namespace's counts": {
			around: surroundings(sidecar("istio-system", "root", 1, nil, narrow)),
			want:   refused,
		},
		"in the root's, the dot is the pod's namespace": {
			around: surroundings(sidecar("istio-system", "root", 1, nil, hosts("./*"))),
		},
		"the root namespace's with a selector does not count": {
			around: surroundings(sidecar("istio-system", "root", 1, app, narrow)),
		},
		"the own namespace's goes before the root's": {
			around: surroundings(sidecar("shop", "default", 2, nil, hosts("*/*")), sidecar("istio-system", "root", 1, nil, narrow)),
		},
		"the root's holds where none of the own matches": {
			around: surroundings(sidecar("shop", "pay", 1, map[string]string{"app": "pay"}, narrow), sidecar("istio-system", "root", 1, nil, hosts("./*"))),
		},
		"every port must be served, those passed through as well": {
			o:      ptr(redis("redis.example.com", passthrough(6380))),
			around: here(listener{port: 6379, protocol: "TCP", hosts: []string{"./*"}}),
			want:   refused,
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := dns
			if c.o != nil {
				o = *c.o
			}
			problems, _ := check(o, app, c.around)
			messages.Add(name, texts(problems)...)
			wantProblems(t, problems, c.want)
		})
	}
}

func ptr[T any](v T) *T { return &v }
