package webhook

import (
	"encoding/json"
	"net/http"
	"reflect"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/config"
)

// FuzzHandler sends any body. The answer must be a 4xx, a clean refusal, or an admission with a patch that applies to
// the object, and never a panic.
func FuzzHandler(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte("{}"))
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u-1"}}`))
	f.Add(
		[]byte(
			`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview",` +
				`"request":{"uid":"u-1","kind":{"version":"v1","kind":"Pod"},` +
				`"operation":"CREATE","namespace":"shop",` +
				`"object":{"metadata":{"annotations":{"redis-tls/host":"a.example.com"}},"spec":null}}}`,
		),
	)
	f.Add(
		[]byte(
			`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview",` +
				`"request":{"uid":"u-1","kind":{"version":"v1","kind":"Pod"},` +
				`"operation":"CREATE","namespace":"shop",` +
				`"object":{"metadata":{"annotations":null},"spec":{"containers":[null,{"name":"istio-proxy","env":[null]}]}}}}`,
		),
	)
	f.Add(newReview(f, newPod(nil)))
	f.Add(newReview(f, newPod(requesting)))
	f.Add(newReview(f, newPod(requesting), func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Delete }))
	f.Add(newReview(f, newPod(map[string]string{
		"redis-tls/addresses":              "10.0.0.3",
		"redis-tls/ca-secret":              "ca",
		"x.redis-tls/host":                 "b.example.com",
		"redis-tls/status":                 "{",
		"sidecar.istio.io/userVolume":      `{"mine":{"emptyDir":{}}}`,
		"sidecar.istio.io/userVolumeMount": `[{"name":"mine","mountPath":"/m"}]`,
	})))
	h := newHandler(f, &view{}, config.PolicyEnforce)
	f.Fuzz(func(t *testing.T, body []byte) {
		w := post(h, body)
		if w.Code >= 400 && w.Code < 500 {
			return
		}
		var review admissionv1.AdmissionReview
		if w.Code != http.StatusOK || json.Unmarshal(w.Body.Bytes(), &review) != nil || review.Response == nil ||
			review.Response.UID == "" {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		if r := review.Response; !r.Allowed {
			if r.Result.Code == http.StatusInternalServerError || r.Result.Message == "" || r.Patch != nil {
				t.Fatalf("not a clean refusal: %+v", r)
			}
			return
		}
		if review.Response.Patch == nil {
			return
		}
		object, canonical := sentObject(body)
		if !canonical {
			return
		}
		patch, err := jsonpatch.DecodePatch(review.Response.Patch)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := patch.Apply(object); err != nil {
			t.Fatalf("%s does not apply to %s: %v", review.Response.Patch, object, err)
		}
	})
}

// sentObject returns the object of the review, and whether the API server could have written it: no duplicate key, no
// key in another case, and no null instead of a value.
func sentObject(body []byte) (json.RawMessage, bool) {
	var sent struct {
		Request struct {
			Object json.RawMessage `json:"object"`
		} `json:"request"`
	}
	var pod corev1.Pod
	if json.Unmarshal(body, &sent) != nil || json.Unmarshal(sent.Request.Object, &pod) != nil {
		return nil, false
	}
	written, err := json.Marshal(pod)
	if err != nil {
		return nil, false
	}
	var a, b any
	return sent.Request.Object, json.Unmarshal(written, &a) == nil && json.Unmarshal(sent.Request.Object, &b) == nil &&
		reflect.DeepEqual(a, b)
}
