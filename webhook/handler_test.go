package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/metrics/metricstest"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// These tests run the handler over HTTP with the real injector, without an API server.

// view is a cluster with one namespace, which is not in the cache for the first lookups.
type view struct {
	unknownFor  atomic.Int32
	boom        bool
	certManager mesh.Presence
}

func (*view) Service(string, string) (annotation.Service, bool) { return annotation.Service{}, false }
func (*view) ServiceWithin(netip.Prefix) (string, bool)         { return "", false }
func (v *view) Snapshot(namespace string) *mesh.Snapshot {
	if v.boom {
		panic("boom")
	}
	return &mesh.Snapshot{Namespace: namespace, RootNamespace: "istio-system", CertManager: v.certManager}
}
func (v *view) Namespace(string) (map[string]string, map[string]string, bool) {
	if v.unknownFor.Add(-1) >= 0 {
		return nil, nil, false
	}
	return map[string]string{"istio-injection": "enabled"}, nil, true
}

func newHandler(t testing.TB, v *view, mode config.PolicyMode) *Handler {
	t.Helper()
	cfg := config.Default()
	cfg.Policy.Mode = mode
	noon := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	h, err := NewHandler(&inject.Injector{
		Config: cfg,
		View:   v,
		Now:    func() time.Time { return noon },
	}, prometheus.NewRegistry(), logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	h.wait, h.poll = 200*time.Millisecond, time.Millisecond
	return h
}

// trial is a policy with the test's namespace as a trial namespace.
func trial() config.Policy {
	policy := config.Default().Policy
	policy.Namespaces = []config.NamespacePolicy{{
		Selector: metav1.LabelSelector{MatchLabels: map[string]string{"istio-injection": "enabled"}},
		Mode:     config.PolicyWarn,
	}}
	return policy
}

func newPod(annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{GenerateName: "cart-", Annotations: annotations},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name:  "app",
			Image: "cart:1",
			Env:   []corev1.EnvVar{{Name: "A", Value: "b"}},
		}}},
	}
}

var requesting = map[string]string{"redis-tls/host": "redis-a.example.com"}

// newReview returns a review as the API server writes it, changed.
func newReview(t testing.TB, pod *corev1.Pod, changes ...func(*admissionv1.AdmissionRequest)) []byte {
	t.Helper()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	r := admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "u-1", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			Resource:  metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			Namespace: "shop", Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: raw},
		},
	}
	for _, change := range changes {
		change(r.Request)
	}
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func post(h http.Handler, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, Path, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// answer decodes an AdmissionReview more strictly than the API server does.
func answer(t testing.TB, w *httptest.ResponseRecorder) *admissionv1.AdmissionResponse {
	t.Helper()
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	var review admissionv1.AdmissionReview
	d := json.NewDecoder(w.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&review); err != nil {
		t.Fatal(err)
	}
	if review.APIVersion != "admission.k8s.io/v1" || review.Kind != "AdmissionReview" || review.Response == nil ||
		review.Response.UID != "u-1" {
		t.Fatalf("not a response to the review: %+v", review)
	}
	if !review.Response.Allowed &&
		(review.Response.Result == nil || review.Response.Result.Message == "" || review.Response.Patch != nil) {
		t.Fatalf("a refusal without a message, or with a patch: %+v", review.Response)
	}
	return review.Response
}

func TestPodThatRequestsTLSIsPatched(t *testing.T) {
	h := newHandler(t, &view{}, config.PolicyEnforce)
	response := answer(t, post(h, newReview(t, newPod(requesting))))
	if !response.Allowed || response.PatchType == nil || *response.PatchType != admissionv1.PatchTypeJSONPatch {
		t.Fatalf("got %+v, want a patch", response)
	}
	pod := newPod(requesting)
	pod.Namespace = "shop"
	var want, got []map[string]any
	decision := h.injector.Load().Inject("shop", pod)
	for _, o := range decision.Operations {
		var m map[string]any
		if err := json.Unmarshal([]byte(o.Json()), &m); err != nil {
			t.Fatal(err)
		}
		want = append(want, m)
	}
	if err := json.Unmarshal(response.Patch, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the patch is not what the injector decided: %s", diff)
	}
}

func TestPodWithoutARequestGetsNoPatch(t *testing.T) {
	h := newHandler(t, &view{}, config.PolicyEnforce)
	response := answer(t, post(h, newReview(t, newPod(nil))))
	if !response.Allowed || response.Patch != nil || response.PatchType != nil || len(response.Warnings) > 0 {
		t.Errorf("got %+v", response)
	}
}

func TestPodThatIsNotInjectedIsStrippedByThePatch(t *testing.T) {
	pod := newPod(map[string]string{"redis-tls/host": "", "redis-tls/status": "mine", "redis-tls/vips": "mine"})
	pod.Labels = map[string]string{"redis-tls/injected": "true", "app": "cart"}
	response := answer(t, post(newHandler(t, &view{}, config.PolicyEnforce), newReview(t, pod)))
	if !response.Allowed || response.PatchType == nil {
		t.Fatalf("got %+v, want a patch", response)
	}
	const want = `[{"op":"remove","path":"/metadata/annotations/redis-tls~1status"},` +
		`{"op":"remove","path":"/metadata/annotations/redis-tls~1vips"},` +
		`{"op":"remove","path":"/metadata/labels/redis-tls~1injected"}]`
	if diff := cmp.Diff(want, string(response.Patch)); diff != "" {
		t.Errorf("patch: %s", diff)
	}
}

func TestRefusals(t *testing.T) {
	c := catalog.Open(t)
	for _, tc := range []struct {
		name   string
		body   func(t *testing.T) []byte
		code   int32
		reason origination.Reason
	}{
		{
			name: "a wrong value is a 403, which clients do not retry",
			body: func(t *testing.T) []byte {
				return newReview(t, newPod(map[string]string{"redis-tls/host": "redis-a.example.com", "redis-tls/port": "70000"}))
			},
			code:   http.StatusForbidden,
			reason: origination.ReasonInvalidAnnotation,
		},
		{
			name: "the namespace of the request counts, not that of the pod's metadata",
			body: func(t *testing.T) []byte {
				return newReview(t, newPod(requesting), func(r *admissionv1.AdmissionRequest) { r.Namespace = "kube-public" })
			},
			code:   http.StatusForbidden,
			reason: origination.ReasonNoSidecar,
		},
		{
			name: "another kind",
			body: func(t *testing.T) []byte {
				return newReview(t, newPod(requesting), func(r *admissionv1.AdmissionRequest) { r.Kind.Kind = "Service" })
			},
			code:   http.StatusBadRequest,
			reason: origination.ReasonMalformedRequest,
		},
		{
			name: "another group's Pod",
			body: func(t *testing.T) []byte {
				return newReview(t, newPod(requesting), func(r *admissionv1.AdmissionRequest) { r.Kind.Group = "x.example" })
			},
			code:   http.StatusBadRequest,
			reason: origination.ReasonMalformedRequest,
		},
		{
			name: "a subresource",
			body: func(t *testing.T) []byte {
				return newReview(t, newPod(requesting), func(r *admissionv1.AdmissionRequest) {
					r.SubResource = "ephemeralcontainers"
				})
			},
			code:   http.StatusBadRequest,
			reason: origination.ReasonMalformedRequest,
		},
		{
			name: "another operation",
			body: func(t *testing.T) []byte {
				return newReview(t, newPod(requesting), func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Update })
			},
			code:   http.StatusBadRequest,
			reason: origination.ReasonMalformedRequest,
		},
		{
			name: "no object",
			body: func(t *testing.T) []byte {
				return newReview(t, newPod(requesting), func(r *admissionv1.AdmissionRequest) { r.Object.Raw = nil })
			},
			code:   http.StatusBadRequest,
			reason: origination.ReasonMalformedRequest,
		},
		{
			name: "no namespace",
			body: func(t *testing.T) []byte {
				return newReview(t, newPod(requesting), func(r *admissionv1.AdmissionRequest) { r.Namespace = "" })
			},
			code:   http.StatusBadRequest,
			reason: origination.ReasonMalformedRequest,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHandler(t, &view{}, config.PolicyEnforce)
			response := answer(t, post(h, tc.body(t)))
			if response.Allowed || response.Result.Code != tc.code {
				t.Errorf("got %+v, want a refusal with code %d", response, tc.code)
			}
			if tc.reason == origination.ReasonMalformedRequest { // the other sentences are not of this package
				c.Add(tc.name, response.Result.Message)
			}
			if got := testutil.ToFloat64(h.metrics.total.WithLabelValues("refused", string(tc.reason))); got != 1 {
				t.Errorf("counted %v times as %s", got, tc.reason)
			}
		})
	}
}

func TestNamespaceThatIsNotInTheCacheYet(t *testing.T) {
	t.Run("is waited for", func(t *testing.T) {
		v := &view{}
		v.unknownFor.Store(5)
		if response := answer(
			t,
			post(newHandler(t, v, config.PolicyEnforce), newReview(t, newPod(requesting))),
		); !response.Allowed {
			t.Errorf("refused: %s", response.Result.Message)
		}
	})
	t.Run("is refused after the wait with a 503, which clients retry", func(t *testing.T) {
		v := &view{}
		v.unknownFor.Store(1 << 30)
		response := answer(t, post(newHandler(t, v, config.PolicyEnforce), newReview(t, newPod(requesting))))
		if response.Allowed || response.Result.Code != http.StatusServiceUnavailable ||
			!strings.Contains(response.Result.Message, string(origination.ReasonNamespaceNotCached)) {
			t.Errorf("got %+v", response)
		}
	})
	t.Run("is not waited for after the caller has gone", func(t *testing.T) {
		v := &view{}
		v.unknownFor.Store(1 << 30)
		h := newHandler(t, v, config.PolicyEnforce)
		h.wait = time.Hour
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		h.awaitNamespace(ctx, "shop") // hangs otherwise
	})
}

func TestPanicIsARefusal(t *testing.T) {
	c := catalog.Open(t)
	for mode, allowed := range map[config.PolicyMode]bool{config.PolicyEnforce: false, config.PolicyWarn: true} {
		h := newHandler(t, &view{boom: true}, mode)
		response := answer(t, post(h, newReview(t, newPod(requesting))))
		if response.Allowed != allowed || response.Patch != nil {
			t.Errorf("policy.mode %s: got %+v", mode, response)
		}
		if !allowed && response.Result.Code != http.StatusInternalServerError {
			t.Errorf("code %d", response.Result.Code)
		}
		c.Add("policy.mode "+string(mode), response.Warnings...)
		if !allowed {
			c.Add("policy.mode "+string(mode), response.Result.Message)
		}
		if allowed && len(response.Warnings) == 0 {
			t.Error("admitted without a warning")
		}
	}
}

func TestANewPolicyAppliesToTheNextReview(t *testing.T) {
	pod := newPod(map[string]string{"redis-tls/host": "redis-a.example.com", "redis-tls/port": "redis"})
	h := newHandler(t, &view{}, config.PolicyEnforce)
	if response := answer(t, post(h, newReview(t, pod))); response.Allowed {
		t.Errorf("before: %+v", response)
	}
	h.SetPolicy(trial())
	if response := answer(t, post(h, newReview(t, pod))); !response.Allowed ||
		!strings.Contains(strings.Join(response.Warnings, " "), "policy.namespaces[0].mode is warn") {
		t.Errorf("in a trial namespace: %+v", response)
	}
	h.SetPolicy(config.Default().Policy)
	if response := answer(t, post(h, newReview(t, pod))); response.Allowed {
		t.Errorf("after the trial: %+v", response)
	}
}

func TestPanicInATrialNamespaceIsNoRefusal(t *testing.T) {
	h := newHandler(t, &view{boom: true}, config.PolicyEnforce)
	h.SetPolicy(trial())
	response := answer(t, post(h, newReview(t, newPod(requesting))))
	if !response.Allowed || len(response.Warnings) == 0 {
		t.Errorf("got %+v", response)
	}
}

func TestAllProblemsAreInOneMessage(t *testing.T) {
	pod := newPod(map[string]string{"redis-tls/host": "localhost", "redis-tls/port": "0"})
	message := answer(t, post(newHandler(t, &view{}, config.PolicyEnforce), newReview(t, pod))).Result.Message
	for _, want := range []string{"pod cart-* in namespace shop", "redis-tls/host", "redis-tls/port"} {
		if !strings.Contains(message, want) {
			t.Errorf("%q lacks %q", message, want)
		}
	}
}

func TestMetricsContainNoValuesOfUsers(t *testing.T) {
	registry := prometheus.NewRegistry()
	cfg := config.Default()
	h, err := NewHandler(&inject.Injector{Config: cfg, View: &view{}, Now: time.Now}, registry, logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	post(h, newReview(t, newPod(requesting)))
	post(h, newReview(t, newPod(map[string]string{"redis-tls/host": "evil\xff"})))
	post(h, []byte("garbage"))
	want := map[string]float64{
		"redis_tls_admission_duration_seconds":                                3,
		"redis_tls_admissions_total outcome=injected reason=Injected":         1,
		"redis_tls_admissions_total outcome=refused reason=InvalidAnnotation": 1,
		"redis_tls_admissions_total outcome=refused reason=MalformedRequest":  1,
	}
	if diff := cmp.Diff(want, metricstest.Gather(t, registry)); diff != "" {
		t.Error(diff)
	}
	if _, err := NewHandler(&inject.Injector{Config: cfg, View: &view{}}, registry, logr.Discard()); err == nil {
		t.Error("the same metrics were registered twice")
	}
}
