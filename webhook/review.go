package webhook

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// maxBody is the largest review that is read: 3 MiB, the API server's own limit of a request
// (MaxRequestBodyBytes in k8s.io/apiserver/pkg/server/config.go), for the one object that a CREATE has, and
// 1 MiB for what the review puts around it.
const maxBody = 4 << 20

// review is the part of an AdmissionReview that is read. The pod is decoded in the same pass, except what is skipped.
type review struct {
	metav1.TypeMeta `json:",inline"`
	Request         *request `json:"request"`
}

type request struct {
	UID         types.UID               `json:"uid"`
	Kind        metav1.GroupVersionKind `json:"kind"`
	SubResource string                  `json:"subResource"`
	Name        string                  `json:"name"`
	Namespace   string                  `json:"namespace"`
	Operation   admissionv1.Operation   `json:"operation"`
	Object      *corev1.Pod             `json:"object"`
}

// unreadableError is a request that is no review: there is no UID to answer to.
type unreadableError struct {
	error
	status int
	reason origination.Reason
}

func malformed(status int, format string, args ...any) *unreadableError {
	return &unreadableError{fmt.Errorf(format, args...), status, origination.ReasonMalformedRequest}
}

func overloaded() *unreadableError {
	return &unreadableError{errors.New("too many reviews at once; try again"), http.StatusServiceUnavailable, origination.ReasonOverloaded}
}

// check looks at what the request's header says.
func check(r *http.Request) *unreadableError {
	if r.Method != http.MethodPost {
		return malformed(http.StatusMethodNotAllowed, "method %s: an AdmissionReview comes by POST", r.Method)
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return malformed(http.StatusUnsupportedMediaType, "content type %q: an AdmissionReview comes as application/json", r.Header.Get("Content-Type"))
	}
	if r.ContentLength > maxBody {
		return tooLarge()
	}
	return nil
}

func tooLarge() *unreadableError {
	return &unreadableError{fmt.Errorf("the AdmissionReview has more than %d bytes", maxBody), http.StatusRequestEntityTooLarge, origination.ReasonRequestTooLarge}
}

// readBody reads at most maxBody bytes. Room is made for what came and, as far as the lanes bound it, for what is announced.
func readBody(b *bytes.Buffer, w http.ResponseWriter, r *http.Request) *unreadableError {
	if r.ContentLength > 0 {
		b.Grow(int(r.ContentLength) + bytes.MinRead) // ReadFrom wants MinRead bytes of room to see the end
	}
	_, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody))
	if limit := (*http.MaxBytesError)(nil); errors.As(err, &limit) {
		return tooLarge()
	}
	if err != nil {
		return malformed(http.StatusBadRequest, "reading the AdmissionReview: %w", err)
	}
	return nil
}

// skipped are the parts of a pod that no decision reads, by type. In many pods they are most of the JSON. The list
// names what is left out, not what is read: a field that a decision reads tomorrow is decoded already.
var skipped = json.JoinUnmarshalers(
	skip[[]metav1.ManagedFieldsEntry](), skip[corev1.PodStatus](),
	skip[*corev1.Affinity](), skip[[]corev1.Toleration](), skip[[]corev1.TopologySpreadConstraint](),
	skip[[]corev1.EnvFromSource](), skip[[]corev1.ContainerPort](), skip[corev1.ResourceRequirements](),
	skip[*corev1.Lifecycle](), skip[*corev1.Probe](),
)

// skip reads the JSON of every T, which must be valid, and leaves the T zero.
func skip[T any]() *json.Unmarshalers {
	return json.UnmarshalFunc(func([]byte, *T) error { return nil })
}

// As in the API server (sigs.k8s.io/json), the last of two members of the same name counts, and bytes that are not
// UTF-8 become U+FFFD.
var (
	withEnv = json.JoinOptions(
		jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true), json.WithUnmarshalers(skipped),
	)
	withoutEnv = json.JoinOptions(
		withEnv, json.WithUnmarshalers(json.JoinUnmarshalers(skip[[]corev1.EnvVar](), skipped)),
	)
)

// istioNames begins the names of the containers that Istio's injector adds. Their environment says how they capture
// traffic, so environments are decoded if the review may have such a container.
var istioNames = []byte(`"istio-`)

// decode returns the request of the review.
func decode(body []byte) (*request, *unreadableError) {
	options := withoutEnv
	if bytes.Contains(body, istioNames) {
		options = withEnv
	}
	var v review
	if err := json.Unmarshal(body, &v, options); err != nil {
		return nil, malformed(http.StatusBadRequest, "decoding the AdmissionReview: %w", err)
	}
	switch {
	case v.APIVersion != admissionv1.SchemeGroupVersion.String() || v.Kind != "AdmissionReview":
		return nil, malformed(http.StatusBadRequest, "apiVersion %q, kind %q: want an AdmissionReview of %s", v.APIVersion, v.Kind, admissionv1.SchemeGroupVersion)
	case v.Request == nil:
		return nil, malformed(http.StatusBadRequest, "the AdmissionReview has no request")
	case v.Request.UID == "":
		return nil, malformed(http.StatusBadRequest, "the AdmissionReview's request has no uid")
	}
	return v.Request, nil
}

// buffers are kept for the next review: what is decoded of one is copied out of it, and so is what is sent.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func putBuffer(b *bytes.Buffer) {
	if b.Cap() <= smallBody+bytes.MinRead {
		b.Reset()
		buffers.Put(b)
	}
}

// foreign says why the request is none of ours: the chart's configuration sends CREATE of pods alone.
// Empty when it is ours.
func (r *request) foreign() string {
	const rule = "this webhook takes CREATE of v1 Pods alone; check the rules of the MutatingWebhookConfiguration"
	switch {
	case r.Kind != metav1.GroupVersionKind{Version: "v1", Kind: "Pod"} || r.SubResource != "":
		return fmt.Sprintf("redis-tls got kind %q, version %q, group %q, subresource %q: %s", r.Kind.Kind, r.Kind.Version, r.Kind.Group, r.SubResource, rule)
	case r.Operation != admissionv1.Create:
		return fmt.Sprintf("redis-tls got operation %q: %s", r.Operation, rule)
	case r.Object == nil:
		return "redis-tls got a review without an object: " + rule
	case r.Namespace == "":
		return "redis-tls got a review of a pod without a namespace: " + rule
	}
	return ""
}

// name returns the pod's name for logs, or what it begins with.
func (r *request) name() string {
	switch {
	case r.Name != "" || r.Object == nil:
		return r.Name
	case r.Object.Name != "":
		return r.Object.Name
	default:
		return r.Object.GenerateName
	}
}
