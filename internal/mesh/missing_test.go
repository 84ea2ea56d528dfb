package mesh_test

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"
	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

const firstUseDelay = 3 * time.Second

// late is long after the objects of applied(1, …) were accepted.
var late = day.Add(2 * time.Hour)

func TestMissing(t *testing.T) {
	dns := redis("a.example.com", passthrough(6380), pinned("240.241.0.9"))
	static := redis("a.example.com", at("10.0.0.3/32"), pinned("240.241.0.9"))
	none := redis("ip-several", at("10.0.0.3/32", "10.0.0.4/32"))
	mutual := redis("a.example.com", passthrough(6380), pinned("240.241.0.9"), func(o *origination.Origination) {
		o.TLS.Mode, o.TLS.ClientSecret, o.TLS.CASecret, o.TLS.CAKey = origination.ModeMutual, "client", "client", "ca.crt"
	})
	discovered := redis("a.example.com", passthrough(6380), pinned("240.241.0.9"), func(o *origination.Origination) {
		o.TLS.SDS, o.TLS.CAConfigMap, o.TLS.CAKey = true, "trust", "ca.crt"
	})
	unchecked := redis("a.example.com", passthrough(6380), pinned("240.241.0.9"), func(o *origination.Origination) {
		o.TLS.InsecureSkipVerify, o.TLS.SubjectAltNames = true, nil
	})
	for name, c := range map[string]struct {
		o    origination.Origination
		edit func(*networkingv1.ServiceEntry, *networkingv1.DestinationRule)
		want bool
	}{
		"everything exists for a DNS host":          {o: dns},
		"everything exists for an address and host": {o: static},
		"everything exists for several addresses":   {o: none},
		"everything exists for mutual TLS":          {o: mutual},
		"everything exists without verification":    {o: unchecked},
		"the rule has no client certificate": {
			o:    mutual,
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, r *networkingv1.DestinationRule) {
				r.Spec.TrafficPolicy.PortLevelSettings[0].Tls.ClientCertificate = ""
			},
		},
		"everything exists for secret discovery": {o: discovered},
		"the rule names another credential": {
			o:    discovered,
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, r *networkingv1.DestinationRule) {
				r.Spec.TrafficPolicy.PortLevelSettings[0].Tls.CredentialName = "configmap://shop/other"
			},
		},
		"the rule has another path of the key": {
			o:    mutual,
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, r *networkingv1.DestinationRule) {
				r.Spec.TrafficPolicy.PortLevelSettings[0].Tls.PrivateKey = "/etc/certs/tls.key"
			},
		},
		"the rule verifies nothing": {
			o:    dns,
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, r *networkingv1.DestinationRule) {
				r.Spec.TrafficPolicy.PortLevelSettings[0].Tls.InsecureSkipVerify = wrapperspb.Bool(true)
			},
		},
		"the entry is marked": {
			o:    dns,
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) {
				e.Annotations = map[string]string{mesh.AnnotationDeleting: ""}
			},
		},
		"the entry is being deleted": {
			o:    dns,
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) {
				e.DeletionTimestamp = &metav1.Time{Time: day}
			},
		},
		"the rule is marked": {
			o:    dns,
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, r *networkingv1.DestinationRule) {
				r.Annotations = map[string]string{mesh.AnnotationDeleting: "2026-01-01T00:00:00Z"}
			},
		},
		"the entry is not managed": {
			o:    dns,
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) { e.Labels = nil },
		},
		"the rule is not managed": {
			o:    dns,
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, r *networkingv1.DestinationRule) { r.Labels = nil },
		},
		"the entry is another namespace's": {
			o:    dns,
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) {
				e.Namespace = "other"
			},
		},
		"the entry has another host": {
			o:    dns,
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) {
				e.Spec.Hosts[0] = "b.example.com.redis-tls.internal"
			},
		},
		"the entry has no host": {
			o:    dns,
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) { e.Spec.Hosts = nil },
		},
		"the entry lists another VIP": {
			o:    dns,
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) {
				e.Spec.Addresses = []string{"240.241.0.8"}
			},
		},
		"the entry lists a further VIP": {
			o:    dns,
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) {
				e.Spec.Addresses = append(e.Spec.Addresses, "240.241.0.8")
			},
		},
		"an atom has another address": {
			o:    none,
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) {
				e.Spec.Addresses = []string{"10.0.0.9"}
			},
		},
		"the entry does not have the port": {
			o:    dns,
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) {
				e.Spec.Ports[0].Number = 6378
			},
		},
		"the entry retargets the port": {
			o:    dns,
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) {
				e.Spec.Ports[0].TargetPort = 6378
			},
		},
		"the entry does not have the passthrough port": {
			o:    dns,
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) {
				e.Spec.Ports = e.Spec.Ports[:1]
			},
		},
		"the entry has another resolution": {
			o:    dns,
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) {
				e.Spec.Resolution = networkingapi.ServiceEntry_STATIC
			},
		},
		"the entry has no endpoint": {
			o:    static,
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) {
				e.Spec.Endpoints = nil
			},
		},
		"the entry resolves to another server": {
			o:    static,
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) {
				e.Spec.Endpoints[0].Address = "10.0.0.4"
			},
		},
		"the endpoint does not have its dot": {
			o:    dns,
			want: true,
			edit: func(e *networkingv1.ServiceEntry, _ *networkingv1.DestinationRule) {
				e.Spec.Endpoints[0].Address = "a.example.com"
			},
		},
		"the rule is for another host": {
			o:    dns,
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, r *networkingv1.DestinationRule) {
				r.Spec.Host = "b.example.com.redis-tls.internal"
			},
		},
		"the rule selects other pods": {
			o:    dns,
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, r *networkingv1.DestinationRule) {
				r.Spec.WorkloadSelector.MatchLabels = map[string]string{"app": "cart"}
			},
		},
		"the rule selects fewer pods": {
			o:    dns,
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, r *networkingv1.DestinationRule) {
				r.Spec.WorkloadSelector.MatchLabels["app"] = "cart"
			},
		},
		"the rule selects all pods": {
			o:    dns,
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, r *networkingv1.DestinationRule) {
				r.Spec.WorkloadSelector = nil
			},
		},
		"the rule does not have the port": {
			o:    dns,
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, r *networkingv1.DestinationRule) {
				r.Spec.TrafficPolicy.PortLevelSettings[0].Port.Number = 6378
			},
		},
		"the rule has no TLS": {
			o:    dns,
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, r *networkingv1.DestinationRule) {
				r.Spec.TrafficPolicy.PortLevelSettings[0].Tls.Mode = networkingapi.ClientTLSSettings_DISABLE
			},
		},
		"the rule names no roots": {
			o:    dns,
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, r *networkingv1.DestinationRule) {
				r.Spec.TrafficPolicy.PortLevelSettings[0].Tls.CaCertificates = ""
			},
		},
		"the rule verifies no name": {
			o:    dns,
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, r *networkingv1.DestinationRule) {
				r.Spec.TrafficPolicy.PortLevelSettings[0].Tls.SubjectAltNames = nil
			},
		},
		"the rule sends another name": {
			o:    dns,
			want: true,
			edit: func(_ *networkingv1.ServiceEntry, r *networkingv1.DestinationRule) {
				r.Spec.TrafficPolicy.PortLevelSettings[0].Tls.Sni = "b.example.com"
			},
		},
		"the pod is not pinned yet": {
			o:    redis("a.example.com", passthrough(6380)),
			want: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			live := c.o
			if live.Pinned() {
				live.VIPs = addrs("240.241.0.9")
			}
			d := applied(1, claim("cart", "1", 1, live))
			if c.edit != nil {
				rule := slices.IndexFunc(d.Rules, func(r *networkingv1.DestinationRule) bool {
					return r.Spec.Host == live.PrivateHosts() && r.Spec.WorkloadSelector != nil ||
						r.Spec.Host == d.Entries[0].Spec.Hosts[0]
				})
				c.edit(d.Entries[0], d.Rules[rule])
			}
			if got := mesh.Missing(&c.o, snapshot(d), late, firstUseDelay); got != c.want {
				t.Errorf("missing: %t, want %t", got, c.want)
			}
			for what, without := range map[string]mesh.Desired{
				"everything": {}, "the rules": {Entries: d.Entries}, "the entries": {Rules: d.Rules},
			} {
				if !mesh.Missing(&c.o, snapshot(without), late, firstUseDelay) {
					t.Errorf("not missing without %s", what)
				}
			}
		})
	}
}

// TestMissingWithoutAClosedRule: a pod without the key's label would send plaintext to the VIP's server.
func TestMissingWithoutAClosedRule(t *testing.T) {
	o := redis("a.example.com", pinned("240.241.0.9"))
	d := applied(1, claim("cart", "1", 1, o))
	d.Rules = slices.DeleteFunc(d.Rules, func(
		r *networkingv1.DestinationRule,
	) bool {
		return r.Name == o.ClosedRuleName()
	})
	if !mesh.Missing(&o, snapshot(d), late, firstUseDelay) {
		t.Error("not missing without the closed rule of the key")
	}
}

func TestMissingUntilTheDelayIsOver(t *testing.T) {
	o := redis("a.example.com", pinned("240.241.0.9"))
	accepted := late.Add(-10 * time.Second)
	manager := func(name, subresource string, at time.Time) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{Manager: name, Subresource: subresource, Time: &metav1.Time{Time: at}}
	}
	for name, c := range map[string]struct {
		fields []metav1.ManagedFieldsEntry
		now    time.Time
		want   bool
	}{
		"created long ago": {now: late},
		"created a moment ago": {
			now:  day.Add(time.Hour + time.Second),
			want: true,
		},
		"just before the delay is over": {
			now:  day.Add(time.Hour + firstUseDelay + time.Second - time.Nanosecond),
			want: true,
		},
		"when the delay is over": {now: day.Add(time.Hour + firstUseDelay + time.Second)},
		"no clock, as in the offline preview": {
			now:  time.Time{},
			want: true,
		},
		"changed by redis-tls before the delay": {
			fields: []metav1.ManagedFieldsEntry{manager("redis-tls", "", accepted)},
			now:    late,
		},
		"changed by redis-tls a moment ago": {
			fields: []metav1.ManagedFieldsEntry{manager("redis-tls", "", late)},
			now:    late,
			want:   true,
		},
		"the latest change of redis-tls counts": {
			fields: []metav1.ManagedFieldsEntry{manager("redis-tls", "", late), manager("redis-tls", "", accepted)},
			now:    late,
			want:   true,
		},
		"changed by others a moment ago": {
			fields: []metav1.ManagedFieldsEntry{manager("kubectl", "", late)},
			now:    late,
		},
		"its status written a moment ago": {
			fields: []metav1.ManagedFieldsEntry{manager("redis-tls", "status", late)},
			now:    late,
		},
		"a change without a time does not count": {
			fields: []metav1.ManagedFieldsEntry{{Manager: "redis-tls"}},
			now:    late,
		},
	} {
		for _, kind := range []string{"entry", "rule"} {
			t.Run(name+", the "+kind, func(t *testing.T) {
				d := applied(1, claim("cart", "1", 1, o))
				var object metav1.Object = d.Rules[0]
				if kind == "entry" {
					object = d.Entries[0]
				}
				object.SetManagedFields(c.fields)
				if got := mesh.Missing(&o, snapshot(d), c.now, firstUseDelay); got != c.want {
					t.Errorf("missing: %t, want %t", got, c.want)
				}
			})
		}
	}
}

// TestMissingOnAnotherAtom: as long as an entry of other pods may get the connections, it needs a rule.
func TestMissingOnAnotherAtom(t *testing.T) {
	wide, narrow := redis("ip-wide", at("10.0.0.0/24")), redis("ip-narrow", at("10.0.0.3/32"))
	d := applied(1, claim("cart", "1", 1, wide), claim("pay", "2", 2, narrow))
	if mesh.Missing(&wide, snapshot(d), late, firstUseDelay) {
		t.Error("missing though everything is there")
	}
	on := slices.IndexFunc(d.Rules, func(r *networkingv1.DestinationRule) bool {
		return r.Spec.Host == narrow.Atoms()[0].Host() && r.Spec.WorkloadSelector.MatchLabels[wide.Label()] != ""
	})
	if on < 0 {
		t.Fatal("no rule of the wide one on the narrow one's entry")
	}
	d.Rules = slices.Delete(d.Rules, on, on+1)
	if !mesh.Missing(&wide, snapshot(d), late, firstUseDelay) {
		t.Error("not missing though its traffic to the narrow entry would have no TLS")
	}
	if mesh.Missing(&narrow, snapshot(d), late, firstUseDelay) {
		t.Error("the narrow one misses a rule of the other")
	}
}
