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
)

func TestLabelsAreOurs(t *testing.T) {
	o := newOrigination()
	for name, test := range map[string]struct {
		have     map[string]string
		os       []origination.Origination
		settings origination.Settings
		want     map[string]string
	}{
		"a server is marked": {nil, nil, origination.Settings{Server: origination.ServerStrict},
			map[string]string{origination.LabelInjected: "true", origination.LabelServer: "strict"}},
		"a forged value of a server's is replaced": {map[string]string{origination.LabelServer: "disable"}, nil, origination.Settings{Server: origination.ServerStrict},
			map[string]string{origination.LabelInjected: "true", origination.LabelServer: "strict"}},
		"a server's label and a restriction's on a pod that is neither are taken off": {
			map[string]string{"app": "cart", origination.LabelServer: "strict", "redis-tls/egress-forged": "true"}, one(), origination.Settings{},
			map[string]string{"app": "cart", o.Label(): "true", origination.LabelInjected: "true"}},
		"a restricted pod is marked, and a forged mark replaced": {
			map[string]string{"redis-tls/egress-forged": "true"}, one(), origination.Settings{Sidecar: origination.SidecarRestrict},
			map[string]string{origination.EgressLabel(one()): "true", o.Label(): "true", origination.LabelInjected: "true"}},
		"forged rule labels and values are replaced": {
			map[string]string{"app": "cart", "redis-tls/to-forged": "true", o.Label(): "no", origination.LabelInjected: "false"},
			one(), origination.Settings{}, map[string]string{"app": "cart", o.Label(): "true", origination.LabelInjected: "true"}},
		"the namespace label and inject are the user's": {
			map[string]string{origination.KeyInject: "true", origination.LabelNamespace: "enabled"},
			one(), origination.Settings{}, map[string]string{origination.KeyInject: "true", origination.LabelNamespace: "enabled", o.Label(): "true", origination.LabelInjected: "true"}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod()
			pod.Labels = test.have
			want(t, "labels", test.want, patched(t, pod, test.os, Options{Settings: test.settings}).Labels)
		})
	}
}

func TestWhatIsRecordedIsWrittenByUs(t *testing.T) {
	const first, later = "2026-01-02T03:04:05.678Z", "2026-01-02T04:04:05.678Z"
	now, err := time.Parse(time.RFC3339Nano, later)
	if err != nil {
		t.Fatal(err)
	}
	request := origination.Status{Version: origination.StatusVersion, Request: map[string]string{"redis-tls/host": host}}
	status, vips := request.String(), host+"="+vip.String()
	record := func(status, vips, firstUse string) map[string]string {
		return map[string]string{origination.AnnotationStatus: status, origination.AnnotationVIPs: vips, origination.AnnotationFirstUse: firstUse}
	}
	for name, test := range map[string]struct {
		have    map[string]string
		os      []origination.Origination
		present bool // whether the objects are there
		want    map[string]string
	}{
		"all of it is written":                          {nil, one(), false, record(status, vips, later)},
		"no time is written where the objects are":      {nil, one(), true, record(status, vips, "")},
		"a user's own value is replaced":                {record(`{"mine":1}`, "mine", first), one(), false, record(status, vips, later)},
		"that of another request is replaced":           {record(strings.Replace(status, host, "b.example.com", 1), vips, first), one(), false, record(status, vips, later)},
		"that of another version is replaced":           {record(strings.Replace(status, "v1", "v0", 1), vips, first), one(), false, record(status, vips, later)},
		"that of other VIPs is replaced":                {record(status, host+"="+otherVIP.String(), first), one(), false, record(status, vips, later)},
		"a stale time goes where the objects are":       {record(status, "", first), one(), true, record(status, vips, "")},
		"an equal record keeps its time":                {record(status, vips, first), one(), false, record(status, vips, first)},
		"it keeps it once the objects are there":        {record(status, vips, first), one(), true, record(status, vips, first)},
		"an equal record without a time stays without":  {record(status, vips, ""), one(), false, record(status, vips, "")},
		"a time that is none goes":                      {record(status, vips, "yesterday"), one(), false, record(status, vips, "")},
		"VIPs of a pod that is not pinned go":           {record(status, vips, first), one(addressed("10.0.0.3/32")), false, record(status, "", later)},
		"an equal record of a pod that is not pinned":   {record(status, "", first), one(addressed("10.0.0.3/32")), false, record(status, "", first)},
		"both families are recorded, IPv4 first":        {nil, one(bothFamilies), true, record(status, vips+","+host+"=fd00:240:241::31", "")},
		"hosts are recorded in the order of instances":  {nil, []origination.Origination{newOrigination(otherHost("a.example.com", otherVIP)), newOrigination()}, true, record(status, "a.example.com="+otherVIP.String()+","+vips, "")},
		"an empty annotation of ours is taken off too":  {map[string]string{origination.AnnotationVIPs: ""}, one(addressed("10.0.0.3/32")), true, record(status, "", "")},
		"what a user wrote beside it is left as it was": {map[string]string{"redis-tls/host": "kept"}, one(), true, map[string]string{"redis-tls/host": "kept", origination.AnnotationStatus: status, origination.AnnotationVIPs: vips}},
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
			got := patched(t, pod, test.os, opts).Annotations
			maps.DeleteFunc(got, func(key, _ string) bool { return strings.HasPrefix(key, "sidecar.istio.io/") })
			want(t, "annotations", test.want, got)
		})
	}
}

func TestStrippingTakesWhatWeAloneWrite(t *testing.T) {
	o := newOrigination()
	kept := newPod(label("app", "cart"), label(origination.KeyInject, "true"), label(origination.LabelNamespace, "enabled"), label("redis-tls.example.com/to-x", "true"),
		annotated("redis-tls/host", ""), annotated("cart.redis-tls/status", "mine"), alias(vip.String(), host),
		func(pod *corev1.Pod) {
			pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: origination.GateFirstUse}}
		})
	marked := kept.DeepCopy()
	for _, mark := range []change{
		label(origination.LabelInjected, "true"), label(o.Label(), "true"), label(origination.LabelServer, "strict"), label(origination.EgressLabel(one()), "true"),
		annotated(origination.AnnotationStatus, "{}"), annotated(origination.AnnotationVIPs, ""), annotated(origination.AnnotationFirstUse, "now"),
	} {
		mark(marked)
	}
	raw, err := json.Marshal(marked)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "pod", kept, decoded(t, stripped(t, raw)))
	if ops := Strip(kept); len(ops) > 0 {
		t.Errorf("operations on a pod with nothing of ours: %v", ops)
	}
	if ops := Strip(newPod()); len(ops) > 0 {
		t.Errorf("operations on a pod without labels and annotations: %v", ops)
	}
}

func TestGate(t *testing.T) {
	ours, other := corev1.PodSchedulingGate{Name: origination.GateFirstUse}, corev1.PodSchedulingGate{Name: "example.com/quota"}
	for name, test := range map[string]struct {
		have   []corev1.PodSchedulingGate
		node   string
		wanted bool
		want   []corev1.PodSchedulingGate
		warns  bool
	}{
		"not wanted, none is added":                {nil, "", false, nil, false},
		"wanted, it is added":                      {nil, "", true, []corev1.PodSchedulingGate{ours}, false},
		"others stay before it":                    {[]corev1.PodSchedulingGate{other}, "", true, []corev1.PodSchedulingGate{other, ours}, false},
		"a gate that is there is not added again":  {[]corev1.PodSchedulingGate{ours}, "", true, []corev1.PodSchedulingGate{ours}, false},
		"a gate that is there is never removed":    {[]corev1.PodSchedulingGate{ours}, "", false, []corev1.PodSchedulingGate{ours}, false},
		"a pod with a node gets a warning":         {nil, "node-1", true, nil, true},
		"a pod with a node, not wanted, gets none": {nil, "node-1", false, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod()
			pod.Spec.SchedulingGates, pod.Spec.NodeName = test.have, test.node
			got := patched(t, pod, one(), Options{Gate: test.wanted})
			want(t, "gates", test.want, got.Spec.SchedulingGates)
			_, warnings, _ := forPod(pod, one(), Options{Gate: test.wanted})
			if warned := len(warnings) == 1 && strings.Contains(warnings[0], `spec.nodeName: "node-1"`); warned != test.warns {
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
	entry := func(ip string, names ...string) corev1.HostAlias {
		return corev1.HostAlias{IP: ip, Hostnames: names}
	}
	own := entry("10.0.0.9", "own.example.com")
	const conflict = `PodConflict: spec.hostAliases[%d].hostnames[%d]: Invalid value: %q: gives redis.example.com the address %s, `
	for name, test := range map[string]struct {
		changes  []change
		os       []origination.Origination
		want     []corev1.HostAlias
		problems []string
	}{
		"a VIP is added":                             {nil, one(), []corev1.HostAlias{entry("240.241.7.31", host)}, nil},
		"a VIP of each address family is added":      {nil, one(bothFamilies), []corev1.HostAlias{entry("240.241.7.31", host), entry("fd00:240:241::31", host)}, nil},
		"the user's entries stay first":              {[]change{alias("10.0.0.9", "own.example.com")}, one(), []corev1.HostAlias{own, entry("240.241.7.31", host)}, nil},
		"a VIP that is there is kept":                {[]change{alias("240.241.7.31", "x.example.com", host)}, one(), []corev1.HostAlias{entry("240.241.7.31", "x.example.com", host)}, nil},
		"only the missing family is added":           {[]change{alias("fd00:240:241:0::31", host)}, one(bothFamilies), []corev1.HostAlias{entry("fd00:240:241:0::31", host), entry("240.241.7.31", host)}, nil},
		"a VIP in other spelling is kept":            {[]change{alias("240.241.7.31", "Redis.Example.com.")}, one(), []corev1.HostAlias{entry("240.241.7.31", "Redis.Example.com.")}, nil},
		"what cannot be pinned leaves aliases alone": {[]change{alias("10.0.0.3", "ip-10-0-0-3")}, one(addressed("10.0.0.3/32")), []corev1.HostAlias{entry("10.0.0.3", "ip-10-0-0-3")}, nil},
		"two hosts get an entry each":                {nil, []origination.Origination{newOrigination(otherHost("cache.example.com", otherVIP)), newOrigination()}, []corev1.HostAlias{entry("240.241.9.9", "cache.example.com"), entry("240.241.7.31", host)}, nil},
		"another VIP becomes the pod's own":          {[]change{alias("10.0.0.9", "own.example.com"), alias("240.241.1.1", host)}, one(), []corev1.HostAlias{own, entry("240.241.7.31", host)}, nil},
		"another VIP of each family becomes its own": {[]change{alias("240.241.1.1", host), alias("fd00:240:241::1", host)}, one(bothFamilies), []corev1.HostAlias{entry("240.241.7.31", host), entry("fd00:240:241::31", host)}, nil},
		"VIPs of two hosts that were exchanged": {[]change{alias("240.241.9.9", host), alias("240.241.7.31", "cache.example.com")},
			[]origination.Origination{newOrigination(otherHost("cache.example.com", otherVIP)), newOrigination()}, []corev1.HostAlias{entry("240.241.7.31", host), entry("240.241.9.9", "cache.example.com")}, nil},
		"another VIP is replaced after the tenth entry too": {[]change{
			alias("10.0.0.0", "a"), alias("10.0.0.1", "b"), alias("10.0.0.2", "c"), alias("10.0.0.3", "d"), alias("10.0.0.4", "e"), alias("10.0.0.5", "f"),
			alias("10.0.0.6", "g"), alias("10.0.0.7", "h"), alias("10.0.0.8", "i"), alias("10.0.0.9", "j"), alias("240.241.1.1", host)}, one(bothFamilies), []corev1.HostAlias{
			entry("10.0.0.0", "a"), entry("10.0.0.1", "b"), entry("10.0.0.2", "c"), entry("10.0.0.3", "d"), entry("10.0.0.4", "e"), entry("10.0.0.5", "f"),
			entry("10.0.0.6", "g"), entry("10.0.0.7", "h"), entry("10.0.0.8", "i"), entry("10.0.0.9", "j"), entry("240.241.7.31", host), entry("fd00:240:241::31", host)}, nil},
		"another VIP that other names share is refused": {[]change{alias("240.241.1.1", "y", host)}, one(), nil, []string{fmt.Sprintf(conflict, 0, 1, host, "240.241.1.1")}},
		"another VIP beside the pod's own is refused":   {[]change{alias("240.241.7.31", host), alias("240.241.1.1", host)}, one(), nil, []string{fmt.Sprintf(conflict, 1, 0, host, "240.241.1.1")}},
		"an address outside the ranges is refused":      {[]change{alias("10.0.0.9", host)}, one(), nil, []string{fmt.Sprintf(conflict, 0, 0, host, "10.0.0.9")}},
		"another address for the host is refused":       {[]change{alias("10.0.0.1", "x"), alias("10.0.0.9", "y", host)}, one(), nil, []string{fmt.Sprintf(conflict, 1, 1, host, "10.0.0.9")}},
		"it is refused beside the VIP too":              {[]change{alias("240.241.7.31", host), alias("10.0.0.9", "REDIS.example.com.")}, one(), nil, []string{fmt.Sprintf(conflict, 1, 0, "REDIS.example.com.", "10.0.0.9")}},
		"an entry that is no address is refused":        {[]change{alias("240.241.007.031", host)}, one(), nil, []string{fmt.Sprintf(conflict, 0, 0, host, "240.241.007.031")}},
		"a VIP that was never drawn is our bug":         {nil, one(func(o *origination.Origination) { o.VIPs = nil }), nil, []string{`InternalError: spec.hostAliases: Invalid value: "redis.example.com": no VIP was drawn`}},
	} {
		t.Run(name, func(t *testing.T) {
			opts := Options{VIPRanges: drawnFrom}
			_, _, problems := forPod(newPod(test.changes...), test.os, opts)
			wantProblems(t, test.problems, problems)
			if len(test.problems) == 0 {
				want(t, "aliases", test.want, patched(t, newPod(test.changes...), test.os, opts).Spec.HostAliases)
			}
		})
	}
}

func TestAliasesAreThoseOfTheHost(t *testing.T) {
	pod := newPod(alias("240.241.7.31", "a", host), alias("240.241.7.31", "Redis.example.com."), alias("nonsense", host), alias("fd00::1", host), alias("10.0.0.1", "b"))
	want(t, "addresses", []netip.Addr{vip, netip.MustParseAddr("fd00::1")}, Aliases(pod, host))
	want(t, "a host without entries", nil, Aliases(pod, "c"))
}
