package patches

import (
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
			map[string]string{"app": "cart", o.RuleLabel(): "true", origination.LabelInjected: "true"}},
		"a restricted pod is marked, and a forged mark replaced": {
			map[string]string{"redis-tls/egress-forged": "true"}, one(), origination.Settings{Sidecar: origination.SidecarRestrict},
			map[string]string{origination.EgressLabel(one()): "true", o.RuleLabel(): "true", origination.LabelInjected: "true"}},
		"forged rule labels and values are replaced": {
			map[string]string{"app": "cart", "redis-tls/to-forged": "true", o.RuleLabel(): "no", origination.LabelInjected: "false"},
			one(), origination.Settings{}, map[string]string{"app": "cart", o.RuleLabel(): "true", origination.LabelInjected: "true"}},
		"the namespace label and inject are the user's": {
			map[string]string{origination.KeyInject: "true", origination.LabelNamespace: "enabled"},
			one(), origination.Settings{}, map[string]string{origination.KeyInject: "true", origination.LabelNamespace: "enabled", o.RuleLabel(): "true", origination.LabelInjected: "true"}},
		"without originations a copied pod loses our labels": {
			map[string]string{"app": "cart", o.RuleLabel(): "true", origination.LabelInjected: "true"},
			nil, origination.Settings{}, map[string]string{"app": "cart"}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod()
			pod.Labels = test.have
			want(t, "labels", test.want, patched(t, pod, test.os, Options{Settings: test.settings}).Labels)
		})
	}
}

func TestStatusIsWrittenByUs(t *testing.T) {
	first := time.Date(2026, 1, 2, 3, 4, 5, 678000000, time.UTC)
	later := first.Add(time.Hour)
	status := func(os []origination.Origination, at *time.Time) string {
		return origination.Status{Version: origination.StatusVersion, Originations: os, FirstUse: at}.String()
	}
	others := one(otherHost("cache.example.com", otherPin))
	for name, test := range map[string]struct {
		have string
		os   []origination.Origination
		want string
	}{
		"a restriction less makes it another":           {strings.Replace(status(one(), &first), `"firstUse"`, `"sidecar":"restrict","firstUse"`, 1), one(), status(one(), &later)},
		"none is written":                               {"", one(), status(one(), &later)},
		"a user's own value is replaced":                {`{"mine":1}`, one(), status(one(), &later)},
		"one of other originations is replaced":         {status(others, &first), one(), status(one(), &later)},
		"one of another version is replaced":            {strings.Replace(status(one(), &first), `"v1"`, `"v0"`, 1), one(), status(one(), &later)},
		"an equal one keeps its time":                   {status(one(), &first), one(), status(one(), &first)},
		"an equal one without a time stays without":     {status(one(), nil), one(), status(one(), nil)},
		"an equal one in other spelling keeps its time": {" " + status(one(), &first), one(), status(one(), &first)},
		"without originations it goes":                  {status(one(), &first), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(annotated("keep", "this"))
			if test.have != "" {
				annotated(origination.AnnotationStatus, test.have)(pod)
			}
			want(t, "status", test.want, patched(t, pod, test.os, Options{FirstUse: &later}).Annotations[origination.AnnotationStatus])
		})
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

func TestPins(t *testing.T) {
	six := netip.MustParseAddr("fd00:240:241::31")
	both := func(o *origination.Origination) { o.VIPs = []netip.Addr{pin, six} }
	entry := func(ip string, names ...string) corev1.HostAlias {
		return corev1.HostAlias{IP: ip, Hostnames: names}
	}
	own := entry("10.0.0.9", "own.example.com")
	for name, test := range map[string]struct {
		changes  []change
		os       []origination.Origination
		want     []corev1.HostAlias
		problems []string
	}{
		"a host is pinned":                           {nil, one(), []corev1.HostAlias{entry("240.241.7.31", host)}, nil},
		"both address families are pinned":           {nil, one(both), []corev1.HostAlias{entry("240.241.7.31", host), entry("fd00:240:241::31", host)}, nil},
		"the user's entries stay first":              {[]change{alias("10.0.0.9", "own.example.com")}, one(), []corev1.HostAlias{own, entry("240.241.7.31", host)}, nil},
		"a pin that is there is kept":                {[]change{alias("240.241.7.31", "x.example.com", host)}, one(), []corev1.HostAlias{entry("240.241.7.31", "x.example.com", host)}, nil},
		"only the missing family is added":           {[]change{alias("fd00:240:241:0::31", host)}, one(both), []corev1.HostAlias{entry("fd00:240:241:0::31", host), entry("240.241.7.31", host)}, nil},
		"a pin in other spelling is kept":            {[]change{alias("240.241.7.31", "Redis.Example.com.")}, one(), []corev1.HostAlias{entry("240.241.7.31", "Redis.Example.com.")}, nil},
		"what cannot be pinned leaves aliases alone": {[]change{alias("10.0.0.3", "ip-10-0-0-3")}, one(addressed("10.0.0.3/32")), []corev1.HostAlias{entry("10.0.0.3", "ip-10-0-0-3")}, nil},
		"two hosts share an address":                 {nil, []origination.Origination{newOrigination(otherHost("cache.example.com", pin)), newOrigination()}, []corev1.HostAlias{entry("240.241.7.31", "cache.example.com"), entry("240.241.7.31", host)}, nil},
		"another address for the host is refused": {[]change{alias("10.0.0.1", "x"), alias("10.0.0.9", "y", host)}, one(), nil,
			[]string{`PodConflict: spec.hostAliases[1].hostnames[1]: Invalid value: "redis.example.com": gives redis.example.com the address 10.0.0.9, `}},
		"it is refused beside the pin too":       {[]change{alias("240.241.7.31", host), alias("10.0.0.9", "REDIS.example.com.")}, one(), nil, []string{`PodConflict: spec.hostAliases[1].hostnames[0]: Invalid value: "REDIS.example.com."`}},
		"an entry that is no address is refused": {[]change{alias("240.241.007.031", host)}, one(), nil, []string{`PodConflict: spec.hostAliases[0].hostnames[0]`}},
		"a pin that was never drawn is our bug":  {nil, one(func(o *origination.Origination) { o.VIPs = nil }), nil, []string{`Internal: spec.hostAliases: Invalid value: "redis.example.com": no address was drawn`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, problems := forPod(newPod(test.changes...), test.os, Options{})
			wantProblems(t, test.problems, problems)
			if len(test.problems) == 0 {
				want(t, "aliases", test.want, patched(t, newPod(test.changes...), test.os, Options{}).Spec.HostAliases)
			}
		})
	}
}

func TestPinned(t *testing.T) {
	pod := newPod(alias("240.241.7.31", "a", host), alias("240.241.7.31", "Redis.example.com."), alias("nonsense", host), alias("fd00::1", host), alias("10.0.0.1", "b"))
	want(t, "addresses", []netip.Addr{pin, netip.MustParseAddr("fd00::1")}, Pinned(pod, host))
	want(t, "a host without entries", nil, Pinned(pod, "c"))
}
