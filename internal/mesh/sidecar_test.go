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

// sidecar returns an unmanaged Sidecar that was created at the hour, with a selector if labels are given.
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
		return snapshot(sidecar("shop", "default", 1, nil, listeners...))
	}
	dns, cidr := redis("redis.example.com"), redis("redis.example.com", at("10.0.0.0/24"))
	private := dns.PrivateHost()
	app := map[string]string{"app": "cart"}
	for name, c := range map[string]struct {
		o    *origination.Origination
		snap *mesh.Snapshot
		want string
	}{
		"no Sidecar":                           {snap: snapshot()},
		"a Sidecar without egress":             {snap: here()},
		"all of all namespaces":                {snap: here(hosts("*/*"))},
		"all of the own namespace":             {snap: here(hosts("istio-system/*", "./*"))},
		"all of the own namespace by its name": {snap: here(hosts("shop/*"))},
		"the private host itself":              {snap: here(hosts("./" + private))},
		"the private host in any namespace":    {snap: here(hosts("*/" + private))},
		"a wildcard above it":                  {snap: here(hosts("./*.redis-tls.internal"))},
		"the host is not imported": {
			snap: here(narrow),
			want: refused,
		},
		"the real host is not the private one": {
			snap: here(hosts("./redis.example.com")),
			want: refused,
		},
		"another namespace's": {
			snap: here(hosts("other/*")),
			want: refused,
		},
		"a wildcard below it": {
			snap: here(hosts("./*." + private)),
			want: refused,
		},
		"no namespace in a host means nothing": {
			snap: here(hosts("*", private)),
			want: refused,
		},
		"an exclusion of it": {
			snap: here(hosts("*/*", "~./"+private)),
			want: refused,
		},
		"an exclusion in every namespace": {
			snap: here(hosts("*/*", "~/*.internal")),
			want: refused,
		},
		"an exclusion of everything before the import": {
			snap: here(hosts("~*/*", "./*")),
			want: refused,
		},
		"an exclusion of something else":    {snap: here(hosts("*/*", "~./other.example.com"))},
		"an exclusion in another namespace": {snap: here(hosts("*/*", "~other/*"))},
		"a listener of its own for the port": {
			snap: here(listener{port: 6379, protocol: "TCP", hosts: []string{"./*"}}, narrow),
		},
		"a listener for another port": {
			snap: here(listener{port: 80, protocol: "HTTP", hosts: []string{"./*"}}),
			want: refused,
		},
		"listeners for other ports and one that has it": {
			snap: here(listener{port: 80, protocol: "HTTP", hosts: []string{"other/*"}}, hosts("./*")),
		},
		"listeners for other ports and one that does not import it": {
			snap: here(listener{port: 80, protocol: "HTTP", hosts: []string{"./*"}}, narrow),
			want: refused,
		},
		"the port's listener does not import it, a later one does": {
			snap: here(listener{port: 6379, protocol: "TCP", hosts: []string{"other/*"}}, hosts("./*")),
		},
		"the same for a CIDR, whose 0.0.0.0 is then locked": {
			o:    &cidr,
			snap: here(listener{port: 6379, protocol: "TCP", hosts: []string{"other/*"}}, hosts("./*")),
			want: refused,
		},
		"a CIDR and a port listener that binds its own": {
			o:    &cidr,
			snap: here(listener{port: 6379, protocol: "TCP", own: true, hosts: []string{"other/*"}}, hosts("./*")),
		},
		"the port's listener speaks HTTP": {
			snap: here(listener{port: 6379, protocol: "HTTP", hosts: []string{"./*"}}),
			want: refused,
		},
		"the port's listener speaks HTTP, a later one has everything": {
			snap: here(listener{port: 6379, protocol: "HTTP", hosts: []string{"./*"}}, hosts("./*")),
		},
		"the port's listener names Redis, which is TCP": {
			snap: here(listener{port: 6379, protocol: "REDIS", hosts: []string{"./*"}}),
		},
		"a listener bound to an address of its own": {
			snap: here(listener{port: 6379, protocol: "TCP", bind: "127.0.0.1", hosts: []string{"./*"}}),
			want: refused,
		},
		"a listener that captures nothing": {
			snap: here(listener{own: true, hosts: []string{"./*"}}),
			want: refused,
		},

		"a selector that matches takes precedence over none": {
			snap: snapshot(sidecar("shop", "wide", 1, nil, hosts("*/*")), sidecar("shop", "default", 2, app, narrow)),
			want: refused,
		},
		"a selector that does not match does not count": {
			snap: snapshot(
				sidecar("shop", "wide", 2, nil, hosts("*/*")),
				sidecar("shop", "default", 1, map[string]string{"app": "pay"}, narrow),
			),
		},
		"a selector with a further label does not match": {
			snap: snapshot(sidecar("shop", "default", 1, map[string]string{"app": "cart", "tier": ""}, narrow)),
		},
		"an empty selector matches and takes precedence": {
			snap: snapshot(
				sidecar("shop", "wide", 1, nil, hosts("*/*")),
				sidecar("shop", "default", 2, map[string]string{}, narrow),
			),
			want: refused,
		},
		"the older of two applies": {
			snap: snapshot(sidecar("shop", "a", 2, nil, hosts("*/*")), sidecar("shop", "default", 1, nil, narrow)),
			want: refused,
		},
		"the first by name of two of the same age applies": {
			snap: snapshot(sidecar("shop", "a", 1, nil, hosts("*/*")), sidecar("shop", "default", 1, nil, narrow)),
		},
		"another namespace's Sidecar does not count": {
			snap: snapshot(sidecar("other", "default", 1, nil, narrow)),
		},
		"the root namespace's counts": {
			snap: snapshot(sidecar("istio-system", "root", 1, nil, narrow)),
			want: refused,
		},
		"in the root's, the dot is the pod's namespace": {
			snap: snapshot(sidecar("istio-system", "root", 1, nil, hosts("./*"))),
		},
		"the root namespace's with a selector does not count": {
			snap: snapshot(sidecar("istio-system", "root", 1, app, narrow)),
		},
		"the own namespace's takes precedence over the root's": {
			snap: snapshot(sidecar("shop", "default", 2, nil, hosts("*/*")), sidecar("istio-system", "root", 1, nil, narrow)),
		},
		"the root's applies if none of the namespace matches": {
			snap: snapshot(
				sidecar("shop", "pay", 1, map[string]string{"app": "pay"}, narrow),
				sidecar("istio-system", "root", 1, nil, hosts("./*")),
			),
		},
		"every port must be served, also passthrough ports": {
			o:    ptr(redis("redis.example.com", passthrough(6380))),
			snap: here(listener{port: 6379, protocol: "TCP", hosts: []string{"./*"}}),
			want: refused,
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := dns
			if c.o != nil {
				o = *c.o
			}
			problems, _ := check(o, app, c.snap)
			messages.Add(name, texts(problems)...)
			wantProblems(t, problems, c.want)
		})
	}
}

func ptr[T any](v T) *T { return &v }
