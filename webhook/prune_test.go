package webhook

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/randfill"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// pruned returns the pod as the handler reads it.
func pruned(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	var r review
	if err := json.Unmarshal(prune(newReview(t, pod)), &r); err != nil {
		t.Fatal(err)
	}
	return r.Request.Object
}

func TestPrunedPodLacksTheNamedFieldsAlone(t *testing.T) {
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
		got := pruned(t, want)
		want.ManagedFields = nil
		s := &want.Spec
		s.Affinity, s.Tolerations, s.TopologySpreadConstraints = nil, nil, nil
		for _, list := range [][]corev1.Container{s.Containers, s.InitContainers} {
			for i := range list {
				c := &list[i]
				c.Env, c.EnvFrom, c.Ports, c.Resources, c.Lifecycle = nil, nil, nil, corev1.ResourceRequirements{}, nil
				c.LivenessProbe, c.ReadinessProbe, c.StartupProbe = nil, nil, nil
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("decoded otherwise: %s", diff)
		}
	}
}

// The environment of Istio's containers is read, so it must arrive: an istio-proxy that intercepts
// nothing is known by it.
func TestPrunedPodDecidesAsTheWholePod(t *testing.T) {
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
			i := newHandler(t, &view{}, config.PolicyEnforce).injector
			now := time.Now()
			i.Now = func() time.Time { return now }
			whole, got := i.Inject("shop", tc.pod), i.Inject("shop", pruned(t, tc.pod))
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
				t.Errorf("whole and pruned differ: %s", diff)
			}
		})
	}
}

func TestPrune(t *testing.T) {
	const around = `{"request":{"object":{"spec":{"containers":[%s]}},"uid":"u"}}`
	for _, tc := range []struct{ name, in, want string }{
		{"a list", `{"env":[{"name":"A"},{}],"name":"a"}`, `{"env":null,"name":"a"}`},
		{"a string with brackets and quotes", `{"env":"]}\"\\","name":"\\\"}"}`, `{"env":null,"name":"\\\"}"}`},
		{"a number", `{"env":-1.5e3}`, `{"env":null}`},
		{"what is no longer than null stays", `{"env":true,"ports":[1],"resources":{},"lifecycle":null}`, `{"env":true,"ports":[1],"resources":{},"lifecycle":null}`},
		{"white space everywhere", "{ \"env\" :\n[ 1 , 2 ]\t, \"name\" : \"a\" }", "{ \"env\" :\nnull\t, \"name\" : \"a\" }"},
		{"the same name elsewhere", `{"image":{"env":[1,2]}}`, `{"image":{"env":[1,2]}}`},
		{"several containers", `{"env":[1,2]},{"name":"b","env":[2,3]}`, `{"env":null},{"name":"b","env":null}`},
		{"what is no container", `[{"env":[1,2]}],"env",7`, `[{"env":[1,2]}],"env",7`},
		{"the environment where a container may be Istio's", `{"name":"istio-proxy","env":[1,2],"ports":[2,3]}`, `{"name":"istio-proxy","env":[1,2],"ports":null}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in, want := strings.Replace(around, "%s", tc.in, 1), strings.Replace(around, "%s", tc.want, 1)
			if got := string(prune([]byte(in))); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestPruneGoesNoDeeperThanItsPaths(t *testing.T) {
	deep := []byte(`{"request":{"object":{"spec":{"containers":` + strings.Repeat("[", maxBody))
	if got := prune(deep); len(got) != len(deep) { // a recursion of that depth would end the process
		t.Errorf("%d bytes of %d", len(got), len(deep))
	}
}

// FuzzPrune holds prune against encoding/json: of a valid text it returns the same value with null at
// the paths, and it ends with any text.
func FuzzPrune(f *testing.F) {
	f.Add([]byte(`{"request":{"object":{"spec":{"containers":[{"env":[1,"]"],"name":"\"\\"}]}}}}`))
	f.Add([]byte(`[}`))
	f.Add([]byte(`{"request":[{"userInfo":`))
	f.Add([]byte(`{"request":{"userInfo":"`))
	f.Add([]byte(`{"request":{"userInfo":"\`))
	f.Add([]byte(`{"request":{"object":[[{"status":1}],{"status":2}]}}`))
	f.Add(newReview(f, newPod(asking), func(r *admissionv1.AdmissionRequest) { r.OldObject = r.Object }))
	f.Fuzz(func(t *testing.T, body []byte) {
		var in, out any
		got := prune(bytes.Clone(body))
		if json.Unmarshal(body, &in) != nil {
			return
		}
		if err := json.Unmarshal(got, &out); err != nil {
			t.Fatalf("%s became %s: %v", body, got, err)
		}
		// A key that comes twice is cut twice, and a list between is looked into: so compare after cutting both.
		if in, out := nulled(in, bulkyWithoutEnv), nulled(out, bulkyWithoutEnv); strings.Contains(string(body), `"istio-`) && !reflect.DeepEqual(in, out) {
			t.Fatalf("%s became %s", body, got)
		}
		if in, out := nulled(in, bulky), nulled(out, bulky); !reflect.DeepEqual(in, out) {
			t.Fatalf("%s became %s", body, got)
		}
	})
}

// nulled returns the value with null at the paths.
func nulled(v any, cut prunes) any {
	if list, ok := v.([]any); ok {
		copied := make([]any, len(list))
		for i := range list {
			if copied[i] = list[i]; reflect.ValueOf(list[i]).Kind() == reflect.Map {
				copied[i] = nulled(list[i], cut)
			}
		}
		return copied
	}
	object, ok := v.(map[string]any)
	if !ok {
		return v
	}
	copied := map[string]any{}
	for key, value := range object {
		switch inside, known := cut[key]; {
		case !known:
			copied[key] = value
		case inside == nil:
			copied[key] = nil
		default:
			copied[key] = nulled(value, inside)
		}
	}
	return copied
}
