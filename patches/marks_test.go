package patches

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

func TestLabelsOfAdmission(t *testing.T) {
	o := newOrigination()
	for name, test := range map[string]struct {
		have         map[string]string
		originations []origination.Origination
		settings     origination.Settings
		want         map[string]string
	}{
		"a server is marked": {
			settings: origination.Settings{Server: origination.ServerStrict},
			want:     map[string]string{origination.LabelInjected: "true", origination.LabelServer: "strict"},
		},
		"a forged value of a server's is replaced": {
			have:     map[string]string{origination.LabelServer: "disable"},
			settings: origination.Settings{Server: origination.ServerStrict},
			want:     map[string]string{origination.LabelInjected: "true", origination.LabelServer: "strict"},
		},
		"labels of a server and of a restricted pod are removed from any other pod": {
			have:         map[string]string{"app": "cart", origination.LabelServer: "strict", "redis-tls/egress-forged": "true"},
			originations: one(),
			settings:     origination.Settings{},
			want:         map[string]string{"app": "cart", o.Label(): "true", origination.LabelInjected: "true"},
		},
		"a restricted pod is marked, and a forged mark replaced": {
			have:         map[string]string{"redis-tls/egress-forged": "true"},
			originations: one(),
			settings:     origination.Settings{Sidecar: origination.SidecarRestrict},
			want: map[string]string{
				origination.EgressLabel(one()): "true",
				o.Label():                      "true",
				origination.LabelInjected:      "true",
			},
		},
		"forged rule labels and values are replaced": {
			have: map[string]string{
				"app":                     "cart",
				"redis-tls/to-forged":     "true",
				o.Label():                 "no",
				origination.LabelInjected: "false",
			},
			originations: one(),
			settings:     origination.Settings{},
			want:         map[string]string{"app": "cart", o.Label(): "true", origination.LabelInjected: "true"},
		},
		"the namespace label and inject are the user's": {
			have:         map[string]string{origination.KeyInject: "true", origination.LabelNamespace: "enabled"},
			originations: one(),
			settings:     origination.Settings{},
			want: map[string]string{
				origination.KeyInject:      "true",
				origination.LabelNamespace: "enabled",
				o.Label():                  "true",
				origination.LabelInjected:  "true",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod()
			pod.Labels = test.have
			want(t, "labels", test.want, patched(t, pod, test.originations, Options{Settings: test.settings}).Labels)
		})
	}
}

func TestAnnotationsOfAdmission(t *testing.T) {
	const first, later = "2026-01-02T03:04:05.678Z", "2026-01-02T04:04:05.678Z"
	now, err := time.Parse(time.RFC3339Nano, later)
	if err != nil {
		t.Fatal(err)
	}
	request := origination.Status{Version: origination.StatusVersion, Request: map[string]string{"redis-tls/host": host}}
	status, vips := request.String(), host+"="+vip.String()
	record := func(status, vips, firstUse string) map[string]string {
		return map[string]string{
			origination.AnnotationStatus:   status,
			origination.AnnotationVIPs:     vips,
			origination.AnnotationFirstUse: firstUse,
		}
	}
	for name, test := range map[string]struct {
		have         map[string]string
		originations []origination.Origination
		present      bool // whether the objects are there
		want         map[string]string
	}{
		"all annotations are written": {
			originations: one(),
			want:         record(status, vips, later),
		},
		"no time is written if the objects exist": {
			originations: one(),
			present:      true,
			want:         record(status, vips, ""),
		},
		"a user's own value is replaced": {
			have:         record(`{"mine":1}`, "mine", first),
			originations: one(),
			want:         record(status, vips, later),
		},
		"the status of another request is replaced": {
			have:         record(strings.Replace(status, host, "b.example.com", 1), vips, first),
			originations: one(),
			want:         record(status, vips, later),
		},
		"the status of another version is replaced": {
			have:         record(strings.Replace(status, "v1", "v0", 1), vips, first),
			originations: one(),
			want:         record(status, vips, later),
		},
		"other VIPs are replaced": {
			have:         record(status, host+"="+otherVIP.String(), first),
			originations: one(),
			want:         record(status, vips, later),
		},
		"a stale time is removed if the objects exist": {
			have:         record(status, "", first),
			originations: one(),
			present:      true,
			want:         record(status, vips, ""),
		},
		"equal annotations keep the time": {
			have:         record(status, vips, first),
			originations: one(),
			want:         record(status, vips, first),
		},
		"equal annotations keep the time once the objects exist": {
			have:         record(status, vips, first),
			originations: one(),
			present:      true,
			want:         record(status, vips, first),
		},
		"equal annotations without a time get none": {
			have:         record(status, vips, ""),
			originations: one(),
			want:         record(status, vips, ""),
		},
		"an invalid time is removed": {
			have:         record(status, vips, "yesterday"),
			originations: one(),
			want:         record(status, vips, ""),
		},
		"VIPs of a pod that is not pinned are removed": {
			have:         record(status, vips, first),
			originations: one(addressed("10.0.0.3/32")),
			want:         record(status, "", later),
		},
		"equal annotations of a pod that is not pinned": {
			have:         record(status, "", first),
			originations: one(addressed("10.0.0.3/32")),
			want:         record(status, "", first),
		},
		"VIPs of both families are written, IPv4 first": {
			originations: one(bothFamilies),
			present:      true,
			want:         record(status, vips+","+host+"=fd00:240:241::31", ""),
		},
		"hosts are written in the order of instances": {
			originations: []origination.Origination{newOrigination(otherHost("a.example.com", otherVIP)), newOrigination()},
			present:      true,
			want:         record(status, "a.example.com="+otherVIP.String()+","+vips, ""),
		},
		"an empty VIP annotation is removed too": {
			have:         map[string]string{origination.AnnotationVIPs: ""},
			originations: one(addressed("10.0.0.3/32")),
			present:      true,
			want:         record(status, "", ""),
		},
		"an annotation of the user stays": {
			have:         map[string]string{"redis-tls/host": "kept"},
			originations: one(),
			present:      true,
			want: map[string]string{
				"redis-tls/host":             "kept",
				origination.AnnotationStatus: status,
				origination.AnnotationVIPs:   vips,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			opts := Options{Status: request, FirstUse: &now}
			if test.present {
				opts.FirstUse = nil
			}
			given := maps.Clone(test.have)
			maps.DeleteFunc(given, func(_, value string) bool { return value == "" && len(test.have) > 1 })
			maps.DeleteFunc(test.want, func(_, value string) bool { return value == "" })
			pod := newPod()
			pod.Annotations = given
			got := patched(t, pod, test.originations, opts).Annotations
			maps.DeleteFunc(got, func(key, _ string) bool { return strings.HasPrefix(key, "sidecar.istio.io/") })
			want(t, "annotations", test.want, got)
		})
	}
}

func TestStripRemovesWhatOnlyTheWebhookWrites(t *testing.T) {
	o := newOrigination()
	kept := newPod(label("app", "cart"), label(origination.KeyInject, "true"), label(
		origination.LabelNamespace,
		"enabled",
	), label("redis-tls.example.com/to-x", "true"),
		annotated("redis-tls/host", ""), annotated("cart.redis-tls/status", "mine"), alias(vip.String(), host),
		func(pod *corev1.Pod) {
			pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: origination.GateFirstUse}}
		})
	marked := kept.DeepCopy()
	for _, mark := range []change{
		label(origination.LabelInjected, "true"),
		label(o.Label(), "true"),
		label(origination.LabelServer, "strict"),
		label(origination.EgressLabel(one()), "true"),
		annotated(origination.AnnotationStatus, "{}"),
		annotated(origination.AnnotationVIPs, ""),
		annotated(origination.AnnotationFirstUse, "now"),
	} {
		mark(marked)
	}
	raw, err := json.Marshal(marked)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "pod", kept, decoded(t, stripped(t, raw)))
	if ops := Strip(kept); len(ops) > 0 {
		t.Errorf("operations on a pod without managed fields: %v", ops)
	}
	if ops := Strip(newPod()); len(ops) > 0 {
		t.Errorf("operations on a pod without labels and annotations: %v", ops)
	}
}

func TestGate(t *testing.T) {
	c := catalog.Open(t)
	firstUse := corev1.PodSchedulingGate{Name: origination.GateFirstUse}
	other := corev1.PodSchedulingGate{Name: "example.com/quota"}
	for name, test := range map[string]struct {
		have   []corev1.PodSchedulingGate
		node   string
		wanted bool
		want   []corev1.PodSchedulingGate
		warns  bool
	}{
		"a pod that needs no gate gets none": {},
		"a pod that needs the gate gets it": {
			wanted: true,
			want:   []corev1.PodSchedulingGate{firstUse},
		},
		"others stay before it": {
			have:   []corev1.PodSchedulingGate{other},
			wanted: true,
			want:   []corev1.PodSchedulingGate{other, firstUse},
		},
		"an existing gate is not added again": {
			have:   []corev1.PodSchedulingGate{firstUse},
			wanted: true,
			want:   []corev1.PodSchedulingGate{firstUse},
		},
		"an existing gate is never removed": {
			have: []corev1.PodSchedulingGate{firstUse},
			want: []corev1.PodSchedulingGate{firstUse},
		},
		"a pod with a node gets a warning": {
			node:   "node-1",
			wanted: true,
			warns:  true,
		},
		"a pod with a node that needs no gate gets no warning": {node: "node-1"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod()
			pod.Spec.SchedulingGates, pod.Spec.NodeName = test.have, test.node
			got := patched(t, pod, one(), Options{Gate: test.wanted})
			want(t, "gates", test.want, got.Spec.SchedulingGates)
			_, warnings, _ := forPod(pod, one(), Options{Gate: test.wanted})
			c.Add(name, warnings...)
			if warned := len(warnings) == 1 && strings.HasPrefix(warnings[0], "spec.nodeName: "); warned != test.warns {
				t.Errorf("warnings: %q", warnings)
			}
		})
	}
}

// bothFamilies gives the origination a VIP of each.
func bothFamilies(o *origination.Origination) {
	o.VIPs = []netip.Addr{vip, netip.MustParseAddr("fd00:240:241::31")}
}

func TestHostAliasesGiveEachHostItsVIPs(t *testing.T) {
	c := catalog.Open(t)
	entry := func(ip string, names ...string) corev1.HostAlias {
		return corev1.HostAlias{IP: ip, Hostnames: names}
	}
	own := entry("10.0.0.9", "own.example.com")
	conflict := func(alias, name int) []string {
		return []string{fmt.Sprintf("PodConflict: spec.hostAliases[%d].hostnames[%d]", alias, name)}
	}
	for name, test := range map[string]struct {
		changes      []change
		originations []origination.Origination
		want         []corev1.HostAlias
		problems     []string
	}{
		"a VIP is added": {
			originations: one(),
			want:         []corev1.HostAlias{entry("240.241.7.31", host)},
		},
		"a VIP of each address family is added": {
			originations: one(bothFamilies),
			want:         []corev1.HostAlias{entry("240.241.7.31", host), entry("fd00:240:241::31", host)},
		},
		"the user's entries stay first": {
			changes:      []change{alias("10.0.0.9", "own.example.com")},
			originations: one(),
			want:         []corev1.HostAlias{own, entry("240.241.7.31", host)},
		},
		"an existing VIP is kept": {
			changes:      []change{alias("240.241.7.31", "x.example.com", host)},
			originations: one(),
			want:         []corev1.HostAlias{entry("240.241.7.31", "x.example.com", host)},
		},
		"only the missing family is added": {
			changes:      []change{alias("fd00:240:241:0::31", host)},
			originations: one(bothFamilies),
			want:         []corev1.HostAlias{entry("fd00:240:241:0::31", host), entry("240.241.7.31", host)},
		},
		"a VIP in other spelling is kept": {
			changes:      []change{alias("240.241.7.31", "Redis.Example.com.")},
			originations: one(),
			want:         []corev1.HostAlias{entry("240.241.7.31", "Redis.Example.com.")},
		},
		"an origination by address does not change aliases": {
			changes:      []change{alias("10.0.0.3", "ip-10-0-0-3")},
			originations: one(addressed("10.0.0.3/32")),
			want:         []corev1.HostAlias{entry("10.0.0.3", "ip-10-0-0-3")},
		},
		"two hosts get an entry each": {
			originations: []origination.Origination{newOrigination(otherHost("cache.example.com", otherVIP)), newOrigination()},
			want:         []corev1.HostAlias{entry("240.241.9.9", "cache.example.com"), entry("240.241.7.31", host)},
		},
		"another VIP becomes the pod's own": {
			changes:      []change{alias("10.0.0.9", "own.example.com"), alias("240.241.1.1", host)},
			originations: one(),
			want:         []corev1.HostAlias{own, entry("240.241.7.31", host)},
		},
		"a recorded VIP of another range becomes the pod's own": {
			changes:      []change{alias("10.9.9.9", host), annotated(origination.AnnotationVIPs, host+"=10.9.9.9")},
			originations: one(),
			want:         []corev1.HostAlias{entry("240.241.7.31", host)},
		},
		"an address that is recorded for another host is refused": {
			changes:      []change{alias("10.9.9.9", host), annotated(origination.AnnotationVIPs, "cache.example.com=10.9.9.9")},
			originations: one(),
			problems:     conflict(0, 0),
		},
		"another VIP of each family becomes its own": {
			changes:      []change{alias("240.241.1.1", host), alias("fd00:240:241::1", host)},
			originations: one(bothFamilies),
			want:         []corev1.HostAlias{entry("240.241.7.31", host), entry("fd00:240:241::31", host)},
		},
		"exchanged VIPs of two hosts": {
			changes:      []change{alias("240.241.9.9", host), alias("240.241.7.31", "cache.example.com")},
			originations: []origination.Origination{newOrigination(otherHost("cache.example.com", otherVIP)), newOrigination()},
			want:         []corev1.HostAlias{entry("240.241.7.31", host), entry("240.241.9.9", "cache.example.com")},
		},
		"another VIP is replaced after the tenth entry too": {
			changes: []change{
				alias("10.0.0.0", "a"),
				alias("10.0.0.1", "b"),
				alias("10.0.0.2", "c"),
				alias("10.0.0.3", "d"),
				alias("10.0.0.4", "e"),
				alias("10.0.0.5", "f"),
				alias("10.0.0.6", "g"),
				alias("10.0.0.7", "h"),
				alias("10.0.0.8", "i"),
				alias("10.0.0.9", "j"),
				alias("240.241.1.1", host),
			},
			originations: one(bothFamilies),
			want: []corev1.HostAlias{
				entry("10.0.0.0", "a"),
				entry("10.0.0.1", "b"),
				entry("10.0.0.2", "c"),
				entry("10.0.0.3", "d"),
				entry("10.0.0.4", "e"),
				entry("10.0.0.5", "f"),
				entry("10.0.0.6", "g"),
				entry("10.0.0.7", "h"),
				entry("10.0.0.8", "i"),
				entry("10.0.0.9", "j"),
				entry("240.241.7.31", host),
				entry("fd00:240:241::31", host),
			},
		},
		"another VIP that other names share is refused": {
			changes:      []change{alias("240.241.1.1", "y", host)},
			originations: one(),
			problems:     conflict(0, 1),
		},
		"another VIP in addition to the pod's own is refused": {
			changes:      []change{alias("240.241.7.31", host), alias("240.241.1.1", host)},
			originations: one(),
			problems:     conflict(1, 0),
		},
		"an address outside the ranges is refused": {
			changes:      []change{alias("10.0.0.9", host)},
			originations: one(),
			problems:     conflict(0, 0),
		},
		"another address for the host is refused": {
			changes:      []change{alias("10.0.0.1", "x"), alias("10.0.0.9", "y", host)},
			originations: one(),
			problems:     conflict(1, 1),
		},
		"another address in addition to the VIP is refused": {
			changes:      []change{alias("240.241.7.31", host), alias("10.0.0.9", "REDIS.example.com.")},
			originations: one(),
			problems:     conflict(1, 0),
		},
		"an address for the host of an instance is refused": {
			changes:      []change{alias("10.0.0.9", host)},
			originations: one(func(o *origination.Origination) { o.Instances = []string{"cache", "jobs"} }),
			problems:     conflict(0, 0),
		},
		"an address for a node is refused": {
			changes: []change{alias("10.0.0.9", "n1.example.com")},
			originations: one(func(o *origination.Origination) {
				o.Nodes = []origination.Name{{Host: "n1.example.com", VIPs: []netip.Addr{otherVIP}}}
			}),
			problems: conflict(0, 0),
		},
		"an address for a host with protocol http is refused": {
			changes:      []change{alias("10.0.0.9", host)},
			originations: one(func(o *origination.Origination) { o.Protocol = "http" }),
			problems:     conflict(0, 0),
		},
		"an entry that is not an address is refused": {
			changes:      []change{alias("240.241.007.031", host)},
			originations: one(),
			problems:     conflict(0, 0),
		},
		"a VIP that was never drawn is a bug": {
			originations: one(func(o *origination.Origination) { o.VIPs = nil }),
			problems:     []string{`InternalError: spec.hostAliases`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			opts := Options{VIPRanges: drawnFrom}
			_, _, problems := forPod(newPod(test.changes...), test.originations, opts)
			c.Add(name, texts(problems)...)
			wantProblems(t, problems, test.problems...)
			if len(test.problems) == 0 {
				want(t, "aliases", test.want, patched(t, newPod(test.changes...), test.originations, opts).Spec.HostAliases)
			}
		})
	}
}

func TestAliasesOfAHost(t *testing.T) {
	pod := newPod(
		alias("240.241.7.31", "a", host),
		alias("240.241.7.31", "Redis.example.com."),
		alias("nonsense", host),
		alias("fd00::1", host),
		alias("10.0.0.1", "b"),
	)
	want(t, "addresses", []netip.Addr{vip, netip.MustParseAddr("fd00::1")}, Aliases(pod, host))
	want(t, "a host without entries", nil, Aliases(pod, "c"))
}
