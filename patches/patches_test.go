package patches

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/origination"
)

// Whatever the order of the webhooks, istio-proxy ends up with the same mounts and nobody changes
// anything in a second round.
func TestBothWebhookOrdersEndTheSame(t *testing.T) {
	os := []origination.Origination{newOrigination(), newOrigination(otherHost("cache.example.com", otherPin))}
	for name, changes := range map[string][]change{
		"a plain pod": nil,
		"a pod with volumes in list form": {
			annotation(istioUserVolume, `[{"name":"logs","emptyDir":{}}]`),
			annotation(istioUserMount, `[{"name":"logs","mountPath":"/logs"}]`)},
		"a pod with volumes in map form, mounts in list form": {
			annotation(istioUserVolume, `{"logs":{"emptyDir":{}}}`),
			annotation(istioUserMount, `[{"name":"logs","mountPath":"/logs","readonly":true}]`)},
		"a pod with a placeholder for istio-proxy": {
			appContainer(corev1.Container{Name: istioProxy, Image: "auto",
				VolumeMounts: []corev1.VolumeMount{{Name: "logs", MountPath: "/logs"}}})},
	} {
		for _, native := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				ours := istioInjects(t, patched(t, newPod(changes...), os, Options{}), native)
				if ops, _, problems := For(ours, os, Options{}); len(ops) > 0 || len(problems) > 0 {
					t.Errorf("reinvocation: operations %v, problems %v", ops, texts(problems))
				}
				theirs := patched(t, istioInjects(t, newPod(changes...), native), os, Options{})
				again := istioInjects(t, theirs, native)
				if ops, _, problems := For(again, os, Options{}); len(ops) > 0 || len(problems) > 0 {
					t.Errorf("reinvocation in the other order: operations %v, problems %v", ops, texts(problems))
				}
				want(t, "mounts of istio-proxy", byPath(proxies(ours)[0].VolumeMounts), byPath(proxies(again)[0].VolumeMounts))
				for _, b := range bundles(os) {
					if !slices.ContainsFunc(proxies(ours)[0].VolumeMounts, func(m corev1.VolumeMount) bool { return sameMount(m, b.mount) }) {
						t.Errorf("the bundle of %s is not mounted: %v", b.host, proxies(ours)[0].VolumeMounts)
					}
				}
			})
		}
	}
}

func byPath(mounts []corev1.VolumeMount) map[string]corev1.VolumeMount {
	m := map[string]corev1.VolumeMount{}
	for _, v := range mounts {
		m[v.MountPath] = v
	}
	return m
}

func TestOperationsAreSortedMinimalAndEscaped(t *testing.T) {
	pod := newPod(label("redis-tls/to-zz", "true"), annotation("keep", "this"), alias("10.0.0.9", "own.example.com"))
	ops, _, _ := For(pod, one(), Options{Gate: true})
	var got []string
	for _, op := range ops {
		got = append(got, op.Operation+" "+op.Path)
	}
	o := newOrigination()
	want(t, "operations", []string{
		"add /metadata/annotations/redis-tls~1status",
		"add /metadata/annotations/sidecar.istio.io~1userVolume",
		"add /metadata/annotations/sidecar.istio.io~1userVolumeMount",
		"add /metadata/labels/redis-tls~1injected",
		"add /metadata/labels/" + escape(o.RuleLabel()),
		"remove /metadata/labels/redis-tls~1to-zz",
		"add /spec/hostAliases/-",
		"add /spec/schedulingGates",
	}, got)
	if sorted := slices.IsSortedFunc(ops, func(a, b jsonpatch.Operation) int { return strings.Compare(a.Path, b.Path) }); !sorted {
		t.Errorf("not sorted: %v", got)
	}
	want(t, "tilde and slash", "a~0b~1c", escape("a~b/c"))
}

func TestAbsentNullAndEmptyContainersAreFilled(t *testing.T) {
	for name, raw := range map[string]string{
		"absent":         `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"app"}]}}`,
		"null":           `{"metadata":{"name":"p","labels":null,"annotations":null},"spec":{"containers":[{"name":"app"}],"hostAliases":null,"schedulingGates":null}}`,
		"empty":          `{"metadata":{"name":"p","labels":{},"annotations":{}},"spec":{"containers":[{"name":"app"}],"hostAliases":[],"schedulingGates":[]}}`,
		"injected empty": `{"metadata":{"name":"p","annotations":{"sidecar.istio.io/status":"{}"}},"spec":{"volumes":[],"initContainers":[{"name":"istio-proxy","volumeMounts":[]}]}}`,
		"injected null":  `{"metadata":{"name":"p","annotations":{"sidecar.istio.io/status":"{}"}},"spec":{"volumes":null,"initContainers":[{"name":"istio-proxy","volumeMounts":null}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			got := decoded(t, applied(t, []byte(raw), one(), Options{Gate: true}))
			want(t, "pins", []corev1.HostAlias{{IP: pin.String(), Hostnames: []string{host}}}, got.Spec.HostAliases)
			want(t, "gates", []corev1.PodSchedulingGate{{Name: origination.GateFirstUse}}, got.Spec.SchedulingGates)
			o := newOrigination()
			want(t, "labels", map[string]string{origination.LabelInjected: "true", o.RuleLabel(): "true"}, got.Labels)
		})
	}
}

func TestUnknownFieldsOfThePodStay(t *testing.T) {
	raw := `{"metadata":{"name":"p","fromTheFuture":1e400},"spec":{"containers":[{"name":"app","new":{"a":12345678901234567890}}],"hostAliases":[{"ip":"10.0.0.1","hostnames":["x"],"ttl":5}]}}`
	got := string(applied(t, []byte(raw), one(), Options{}))
	for _, part := range []string{`"fromTheFuture":1e400`, `"new":{"a":12345678901234567890}`, `{"ip":"10.0.0.1","hostnames":["x"],"ttl":5}`} {
		if !strings.Contains(got, part) {
			t.Errorf("%s is lost: %s", part, got)
		}
	}
}

func TestLabelsAreOurs(t *testing.T) {
	o := newOrigination()
	for name, test := range map[string]struct {
		have map[string]string
		os   []origination.Origination
		want map[string]string
	}{
		"forged rule labels and values are replaced": {
			map[string]string{"app": "cart", "redis-tls/to-forged": "true", o.RuleLabel(): "no", origination.LabelInjected: "false"},
			one(), map[string]string{"app": "cart", o.RuleLabel(): "true", origination.LabelInjected: "true"}},
		"the namespace label and inject are the user's": {
			map[string]string{origination.KeyInject: "true", origination.LabelNamespace: "enabled"},
			one(), map[string]string{origination.KeyInject: "true", origination.LabelNamespace: "enabled", o.RuleLabel(): "true", origination.LabelInjected: "true"}},
		"without originations a copied pod loses our labels": {
			map[string]string{"app": "cart", o.RuleLabel(): "true", origination.LabelInjected: "true"},
			nil, map[string]string{"app": "cart"}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod()
			pod.Labels = test.have
			want(t, "labels", test.want, patched(t, pod, test.os, Options{}).Labels)
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
			pod := newPod(annotation("keep", "this"))
			if test.have != "" {
				annotation(origination.AnnotationStatus, test.have)(pod)
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
			_, warnings, _ := For(pod, one(), Options{Gate: test.wanted})
			if warned := len(warnings) == 1 && strings.Contains(warnings[0], `spec.nodeName: "node-1"`); warned != test.warns {
				t.Errorf("warnings: %q", warnings)
			}
		})
	}
}

func TestPins(t *testing.T) {
	six := netip.MustParseAddr("fd00:240:241::31")
	both := func(o *origination.Origination) { o.Pin = []netip.Addr{pin, six} }
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
		"a pin that was never drawn is our bug":  {nil, one(func(o *origination.Origination) { o.Pin = nil }), nil, []string{`Internal: spec.hostAliases: Invalid value: "redis.example.com": no address was drawn`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, problems := For(newPod(test.changes...), test.os, Options{})
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

func TestNoOperationsWithProblems(t *testing.T) {
	ops, warnings, problems := For(newPod(alias("10.0.0.9", host), annotation(istioUserVolume, "{")), one(), Options{Gate: true})
	if len(ops) > 0 || len(warnings) > 0 || len(problems) != 2 {
		t.Errorf("operations %v, warnings %v, problems %v", ops, warnings, texts(problems))
	}
}

// wantProblems compares by beginning: the rest of a message is advice.
func wantProblems(t *testing.T, wanted []string, problems []origination.Problem) {
	t.Helper()
	got := texts(problems)
	if len(got) != len(wanted) {
		t.Fatalf("want %d problems, got %q", len(wanted), got)
	}
	for i, prefix := range wanted {
		if !strings.HasPrefix(got[i], prefix) {
			t.Errorf("problem %d:\nwant %s…\n got %s", i, prefix, got[i])
		}
	}
}

func TestOperationsMarshal(t *testing.T) {
	ops, _, _ := For(newPod(label("redis-tls/to-stale", "true")), one(systemRoots), Options{})
	raw, err := json.Marshal(ops)
	if err != nil || !strings.Contains(string(raw), `{"op":"remove","path":"/metadata/labels/redis-tls~1to-stale"}`) {
		t.Errorf("%s, %v", raw, err)
	}
}
