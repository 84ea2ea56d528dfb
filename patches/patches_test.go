package patches

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// In either order of the webhooks, istio-proxy gets the same mounts, and a second run changes nothing.
func TestBothWebhookOrdersGiveTheSamePod(t *testing.T) {
	originations := []origination.Origination{newOrigination(), newOrigination(otherHost("cache.example.com", otherVIP))}
	for name, changes := range map[string][]change{
		"a plain pod": nil,
		"a pod with volumes in list form": {
			annotated(istioUserVolume, `[{"name":"logs","emptyDir":{}}]`),
			annotated(istioUserMount, `[{"name":"logs","mountPath":"/logs"}]`)},
		"a pod with volumes in map form, mounts in list form": {
			annotated(istioUserVolume, `{"logs":{"emptyDir":{}}}`),
			annotated(istioUserMount, `[{"name":"logs","mountPath":"/logs","readonly":true}]`)},
		"a pod with a placeholder for istio-proxy": {
			appContainer(corev1.Container{Name: istioProxy, Image: "auto",
				VolumeMounts: []corev1.VolumeMount{{Name: "logs", MountPath: "/logs"}}})},
	} {
		for _, native := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				first := istioInjects(t, patched(t, newPod(changes...), originations, Options{}), native)
				if ops, _, problems := forPod(first, originations, Options{}); len(ops) > 0 || len(problems) > 0 {
					t.Errorf("reinvocation: operations %v, problems %v", ops, texts(problems))
				}
				second := patched(t, istioInjects(t, newPod(changes...), native), originations, Options{})
				again := istioInjects(t, second, native)
				if ops, _, problems := forPod(again, originations, Options{}); len(ops) > 0 || len(problems) > 0 {
					t.Errorf("reinvocation in the other order: operations %v, problems %v", ops, texts(problems))
				}
				want(t, "mounts of istio-proxy", byPath(proxyOf(first).VolumeMounts), byPath(proxyOf(again).VolumeMounts))
				for _, b := range bundles(originations) {
					if !slices.ContainsFunc(proxyOf(first).VolumeMounts, func(
						m corev1.VolumeMount,
					) bool {
						return sameMount(m, b.mount)
					}) {
						t.Errorf("the bundle of %s is not mounted: %v", b.host, proxyOf(first).VolumeMounts)
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
	pod := newPod(label("redis-tls/to-zz", "true"), annotated("keep", "this"), alias("10.0.0.9", "own.example.com"))
	ops, _, _ := forPod(pod, one(), Options{Gate: true})
	var got []string
	for _, op := range ops {
		got = append(got, op.Operation+" "+op.Path)
	}
	o := newOrigination()
	want(t, "operations", []string{
		"add /metadata/annotations/redis-tls~1status",
		"add /metadata/annotations/redis-tls~1vips",
		"add /metadata/annotations/sidecar.istio.io~1userVolume",
		"add /metadata/annotations/sidecar.istio.io~1userVolumeMount",
		"add /metadata/labels/redis-tls~1injected",
		"add /metadata/labels/" + escape(o.Label()),
		"remove /metadata/labels/redis-tls~1to-zz",
		"add /spec/hostAliases/-",
		"add /spec/schedulingGates",
	}, got)
	if sorted := slices.IsSortedFunc(ops, func(
		a, b jsonpatch.Operation,
	) int {
		return strings.Compare(a.Path, b.Path)
	}); !sorted {
		t.Errorf("not sorted: %v", got)
	}
	want(t, "tilde and slash", "a~0b~1c", escape("a~b/c"))
}

func TestAbsentNullAndEmptyContainersAreFilled(t *testing.T) {
	for name, raw := range map[string]string{
		"absent": `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"app"}]}}`,
		"null": `{"metadata":{"name":"p","labels":null,"annotations":null},` +
			`"spec":{"containers":[{"name":"app"}],"hostAliases":null,"schedulingGates":null}}`,
		"empty": `{"metadata":{"name":"p","labels":{},"annotations":{}},` +
			`"spec":{"containers":[{"name":"app"}],"hostAliases":[],"schedulingGates":[]}}`,
		"injected empty": `{"metadata":{"name":"p","annotations":{"sidecar.istio.io/status":"{}"}},` +
			`"spec":{"volumes":[],"initContainers":[{"name":"istio-proxy","volumeMounts":[]}]}}`,
		"injected null": `{"metadata":{"name":"p","annotations":{"sidecar.istio.io/status":"{}"}},` +
			`"spec":{"volumes":null,"initContainers":[{"name":"istio-proxy","volumeMounts":null}]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			got := decoded(t, applied(t, []byte(raw), one(), Options{Gate: true}))
			want(t, "aliases", []corev1.HostAlias{{IP: vip.String(), Hostnames: []string{host}}}, got.Spec.HostAliases)
			want(t, "gates", []corev1.PodSchedulingGate{{Name: origination.GateFirstUse}}, got.Spec.SchedulingGates)
			o := newOrigination()
			want(t, "labels", map[string]string{origination.LabelInjected: "true", o.Label(): "true"}, got.Labels)
		})
	}
}

func TestUnknownFieldsOfThePodStay(t *testing.T) {
	raw := `{"metadata":{"name":"p","fromTheFuture":1e400},` +
		`"spec":{"containers":[{"name":"app","new":{"a":12345678901234567890}}],"hostAliases":[{"ip":"10.0.0.1",` +
		`"hostnames":["x"],"ttl":5}]}}`
	got := string(applied(t, []byte(raw), one(), Options{}))
	for _, part := range []string{
		`"fromTheFuture":1e400`,
		`"new":{"a":12345678901234567890}`,
		`{"ip":"10.0.0.1","hostnames":["x"],"ttl":5}`,
	} {
		if !strings.Contains(got, part) {
			t.Errorf("%s is lost: %s", part, got)
		}
	}
}

func TestNoOperationsWithProblems(t *testing.T) {
	ops, warnings, problems := forPod(
		newPod(alias("10.0.0.9", host), annotated(istioUserVolume, "{")),
		one(),
		Options{Gate: true},
	)
	if len(ops) > 0 || len(warnings) > 0 || len(problems) != 2 {
		t.Errorf("operations %v, warnings %v, problems %v", ops, warnings, texts(problems))
	}
}

// For checks the capture of the VIPs, because nothing before it knows them.
func TestTheVIPMustBeCaptured(t *testing.T) {
	for _, key := range []string{"excludeOutboundIPRanges", "includeOutboundIPRanges"} {
		value := map[string]string{"excludeOutboundIPRanges": "240.241.0.0/16", "includeOutboundIPRanges": "10.0.0.0/8"}[key]
		ops, _, problems := forPod(newPod(annotated("traffic.sidecar.istio.io/"+key, value)), one(), Options{})
		wantProblems(t, problems, "SidecarBypassed: metadata.annotations[traffic.sidecar.istio.io/"+key+"]")
		if len(ops) > 0 {
			t.Errorf("operations %v", ops)
		}
	}
}

// wantProblems compares reason and path, as in "PodConflict: spec.volumes[0].name".
func wantProblems(t *testing.T, problems []origination.Problem, wanted ...string) {
	t.Helper()
	var got []string
	for _, p := range problems {
		got = append(got, string(p.Reason)+": "+p.Err.Field)
	}
	want(t, "problems", wanted, got)
}

func TestOperationsMarshal(t *testing.T) {
	ops, _, _ := forPod(newPod(label("redis-tls/to-stale", "true")), one(systemRoots), Options{})
	raw, err := json.Marshal(ops)
	if err != nil || !strings.Contains(string(raw), `{"op":"remove","path":"/metadata/labels/redis-tls~1to-stale"}`) {
		t.Errorf("%s, %v", raw, err)
	}
}
