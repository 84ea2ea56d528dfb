package webhook

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/randfill"

	"github.com/redis-tls/redis-tls/inject"
	"github.com/redis-tls/redis-tls/origination"
)

// lean decodes as the handler does.
func lean(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	var l leanPod
	if err := json.Unmarshal(raw, &l); err != nil {
		t.Fatal(err)
	}
	got, err := l.pod(pod.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestLeanPodLacksTheNamedFieldsAlone(t *testing.T) {
	filler := randfill.NewWithSeed(1).NilChance(0.2).NumElements(1, 2).MaxDepth(12).Funcs(
		func(at *metav1.Time, c randfill.Continue) { *at = metav1.Unix(c.Int63n(1<<32), 0) },
		func(at *metav1.MicroTime, c randfill.Continue) {
			*at = metav1.NewMicroTime(time.Unix(c.Int63n(1<<32), 0))
		},
		func(f *metav1.FieldsV1, _ randfill.Continue) { f.SetRawString(`{"f:a":{}}`) },
	)
	for range 50 {
		pod := &corev1.Pod{}
		filler.Fill(&pod.ObjectMeta)
		filler.Fill(&pod.Spec)
		raw, err := json.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		want := &corev1.Pod{} // what JSON keeps of it
		if err := json.Unmarshal(raw, want); err != nil {
			t.Fatal(err)
		}
		got := lean(t, want)
		hide(&want.ObjectMeta, leanMeta{})
		hide(&want.Spec, leanSpec{})
		for _, list := range [][]corev1.Container{want.Spec.Containers, want.Spec.InitContainers} {
			for i := range list {
				hide(&list[i], leanContainer{})
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("decoded otherwise: %s", diff)
		}
	}
}

// hide empties those fields of the whole that lean leaves unparsed.
func hide(whole, lean any) {
	for i := range reflect.TypeOf(lean).NumField() {
		if f := reflect.TypeOf(lean).Field(i); f.Type == reflect.TypeFor[unparsed]() {
			reflect.ValueOf(whole).Elem().FieldByName(f.Name).SetZero()
		}
	}
}

// The environment of Istio's containers is read, so it must arrive: an istio-proxy that intercepts nothing is
// known by it.
func TestLeanPodDecidesAsTheWholePod(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	injected := newPod(map[string]string{"redis-tls/host": "redis-a.example.com", "sidecar.istio.io/status": `{"initContainers":["istio-proxy"]}`})
	injected.Spec.InitContainers = []corev1.Container{{
		Name: "istio-proxy", RestartPolicy: &always, Args: []string{"proxy", "sidecar"},
		Env: []corev1.EnvVar{{Name: "A", Value: "b"}, {Name: "ISTIO_META_INTERCEPTION_MODE", Value: "NONE"}},
	}}
	for name, tc := range map[string]struct {
		pod    *corev1.Pod
		reason origination.Reason
	}{
		"a pod before Istio's injector":          {newPod(asking), origination.ReasonInjected},
		"a pod with an istio-proxy that has env": {injected, origination.ReasonBypass},
	} {
		t.Run(name, func(t *testing.T) {
			tc.pod.Namespace = "shop"
			i := newHandler(t, &view{}, origination.PolicyEnforce).injector
			now := time.Now()
			i.Now = func() time.Time { return now }
			whole, got := i.Inject("shop", tc.pod), i.Inject("shop", lean(t, tc.pod))
			if whole.Reason != tc.reason {
				t.Errorf("the whole pod: %s (%s), want %s", whole.Reason, whole.Message("shop", tc.pod), tc.reason)
			}
			type comparable struct {
				Reason     origination.Reason
				Message    string
				Operations []jsonpatch.Operation
				Warnings   []string
			}
			of := func(d inject.Decision) comparable {
				return comparable{d.Reason, d.Message("shop", tc.pod), d.Operations, d.Warnings}
			}
			if diff := cmp.Diff(of(whole), of(got)); diff != "" {
				t.Errorf("whole and lean differ: %s", diff)
			}
		})
	}
}

func TestWarningsAreBounded(t *testing.T) {
	if got := bounded([]string{"short"}); len(got) != 1 || got[0] != "redis-tls: short" {
		t.Errorf("got %q", got)
	}
	many := make([]string, 100)
	for i := range many {
		many[i] = strings.Repeat("ä", 1000)
	}
	got := bounded(many)
	runes := 0
	for _, w := range got {
		if n := len([]rune(w)); n > longestWarning {
			t.Errorf("a warning of %d runes", n)
		}
		runes += len([]rune(w))
	}
	if runes > 2048 || len(got) != mostWarnings {
		t.Errorf("%d warnings of %d runes", len(got), runes)
	}
	if last := got[len(got)-1]; !strings.Contains(last, "93 more") {
		t.Errorf("the last one, %q, does not count the rest", last)
	}
	if exact := bounded(many[:mostWarnings]); strings.Contains(exact[mostWarnings-1], "more") {
		t.Errorf("%d warnings are cut", mostWarnings)
	}
}

func TestPatchIsEncodedAsTheLibraryDoes(t *testing.T) {
	operations := []jsonpatch.Operation{
		jsonpatch.NewOperation("add", "/metadata/annotations/redis-tls~1status", `{"a":"<b>"}`),
		jsonpatch.NewOperation("add", "/spec/hostAliases/-", corev1.HostAlias{IP: "240.241.0.1", Hostnames: []string{"h"}}),
		jsonpatch.NewOperation("replace", "/spec/x", nil),
		jsonpatch.NewOperation("replace", "/spec/y", ""),
		jsonpatch.NewOperation("remove", "/metadata/labels/z", nil),
	}
	got, err := encode(operations)
	if err != nil {
		t.Fatal(err)
	}
	library, err := json.Marshal(operations)
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if json.Unmarshal(got, &a) != nil || json.Unmarshal(library, &b) != nil {
		t.Fatalf("not JSON: %s", got)
	}
	if diff := cmp.Diff(b, a); diff != "" {
		t.Errorf("%s: %s", got, diff)
	}
}
