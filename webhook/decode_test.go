package webhook

import (
	stdjson "encoding/json"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apijson "sigs.k8s.io/json"
	"sigs.k8s.io/randfill"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// decoded returns the pod as the handler reads it.
func decoded(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	r, unreadable := decode(newReview(t, pod))
	if unreadable != nil {
		t.Fatal(unreadable)
	}
	return r.Object
}

// clearSkipped removes the fields from the pod that decode skips, environments too.
func clearSkipped(pod *corev1.Pod) {
	pod.ManagedFields, pod.Status = nil, corev1.PodStatus{}
	s := &pod.Spec
	s.Affinity, s.Tolerations, s.TopologySpreadConstraints = nil, nil, nil
	if s.Resources != nil {
		s.Resources = &corev1.ResourceRequirements{}
	}
	for _, v := range s.Volumes {
		if v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil {
			v.Ephemeral.VolumeClaimTemplate.ManagedFields = nil
		}
	}
	for _, list := range [][]corev1.Container{s.Containers, s.InitContainers} {
		for i := range list {
			clearContainer(&list[i])
		}
	}
	for i := range s.EphemeralContainers {
		c := corev1.Container(s.EphemeralContainers[i].EphemeralContainerCommon)
		clearContainer(&c)
		s.EphemeralContainers[i].EphemeralContainerCommon = corev1.EphemeralContainerCommon(c)
	}
}

func clearContainer(c *corev1.Container) {
	c.Env, c.EnvFrom, c.Ports, c.Resources, c.Lifecycle = nil, nil, nil, corev1.ResourceRequirements{}, nil
	c.LivenessProbe, c.ReadinessProbe, c.StartupProbe = nil, nil, nil
}

func TestDecodedPodLacksOnlyTheSkippedFields(t *testing.T) {
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
		filler.Fill(&pod.Status)
		raw, err := stdjson.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		want := &corev1.Pod{} // what JSON keeps of it
		if err := stdjson.Unmarshal(raw, want); err != nil {
			t.Fatal(err)
		}
		got := decoded(t, want)
		clearSkipped(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("want -, got +: %s", diff)
		}
	}
}

// The environment of Istio's containers must be decoded: it shows an istio-proxy that intercepts nothing.
func TestDecodedPodGetsTheDecisionOfTheWholePod(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	injected := newPod(map[string]string{
		"redis-tls/host":          "redis-a.example.com",
		"sidecar.istio.io/status": `{"initContainers":["istio-proxy"]}`,
	})
	injected.Spec.InitContainers = []corev1.Container{{
		Name: "istio-proxy", RestartPolicy: &always, Args: []string{"proxy", "sidecar"},
		Env: []corev1.EnvVar{{Name: "A", Value: "b"}, {Name: "ISTIO_META_INTERCEPTION_MODE", Value: "NONE"}},
	}}
	for name, tc := range map[string]struct {
		pod    *corev1.Pod
		reason origination.Reason
	}{
		"a pod before Istio's injector":          {newPod(requesting), origination.ReasonInjected},
		"a pod with an istio-proxy that has env": {injected, origination.ReasonSidecarBypassed},
	} {
		t.Run(name, func(t *testing.T) {
			i := newHandler(t, &view{}, config.PolicyEnforce).injector.Load()
			now := time.Now()
			i.Now = func() time.Time { return now }
			whole, got := i.Inject("shop", tc.pod), i.Inject("shop", decoded(t, tc.pod))
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
				t.Errorf("whole and decoded differ: %s", diff)
			}
		})
	}
}

// FuzzDecode compares decode with sigs.k8s.io/json, which the API server uses. Decode must accept every body that the
// library accepts, with the same result except for skipped fields.
func FuzzDecode(f *testing.F) {
	const before = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1","object":{`
	for _, object := range []string{
		`"metadata":null,"spec":{"containers":[null,{},{"name":"istio-proxy","env":[{"name":"]}\"\\"}],"args":["\ud800"]}]}`,
		`"metadata":{"labels":{"a":"1","a":"2"},"name":"` + "\xff" + `"},"metadata":{"Name":"b","unknown":[{}]}`,
		`"spec":{"containers":[{"env":[{"name":"a"}],"ports":[{}],"livenessProbe":{},"lifecycle":null}],"priority":-1}`,
		`"spec":{"volumes":[{"name":"v","emptyDir":{"sizeLimit":"1Gi"}}],"tolerations":{},"hostNetwork":true}`,
	} {
		f.Add([]byte(before + object + `}}}`))
	}
	f.Add(newReview(f, newPod(requesting), func(r *admissionv1.AdmissionRequest) { r.OldObject = r.Object }))
	f.Fuzz(func(t *testing.T, body []byte) {
		var want review
		err := apijson.UnmarshalCaseSensitivePreserveInts(body, &want)
		got, unreadable := decode(body)
		if unreadable != nil {
			isReview := want.APIVersion == "admission.k8s.io/v1" && want.Kind == "AdmissionReview"
			if err == nil && isReview && want.Request != nil && want.Request.UID != "" {
				t.Fatalf("%s: %v", body, unreadable)
			}
			return
		}
		// Skipped fields may have a wrong type. Two members of one name may merge differently.
		if err != nil || json.Unmarshal(body, new(any)) != nil {
			return
		}
		for _, r := range []*request{want.Request, got} {
			if r.Object != nil {
				clearSkipped(r.Object)
			}
		}
		if !equality.Semantic.DeepEqual(want.Request, got) {
			t.Fatalf("%s: %s", body, cmp.Diff(want.Request, got))
		}
	})
}
