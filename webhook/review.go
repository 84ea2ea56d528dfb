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

// maxBody is the largest review that is read. A CREATE has one object, of at most 3 MiB: the API server's own limit of
// a request (MaxRequestBodyBytes in k8s.io/apiserver/pkg/server/config.go). The rest of the review has 1 MiB.
const maxBody = 4 << 20

// review is the part of an AdmissionReview that is read. The pod is decoded in the same pass, without the skipped
// types.
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

// unreadableError is the error of a request that is not a review. Without a UID no AdmissionReview can answer it.
type unreadableError struct {
	error
	status int
	reason origination.Reason
}

func malformed(status int, format string, args ...any) *unreadableError {
	return &unreadableError{fmt.Errorf(format, args...), status, origination.ReasonMalformedRequest}
}

func overloaded() *unreadableError {
	return &unreadableError{
		errors.New("too many admission reviews at once; retry"),
		http.StatusServiceUnavailable,
		origination.ReasonOverloaded,
	}
}

// check validates the request's method and header.
func check(r *http.Request) *unreadableError {
	if r.Method != http.MethodPost {
		return malformed(http.StatusMethodNotAllowed, "method %s: must be POST", r.Method)
	}
	contentType := r.Header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(contentType); err != nil || media != "application/json" {
		return malformed(http.StatusUnsupportedMediaType, "content type %q: must be application/json", contentType)
	}
	if r.ContentLength > maxBody {
		return tooLarge()
	}
	return nil
}

func tooLarge() *unreadableError {
	return &unreadableError{
		fmt.Errorf("the AdmissionReview must have at most %d bytes", maxBody),
		http.StatusRequestEntityTooLarge,
		origination.ReasonRequestTooLarge,
	}
}

// readBody reads at most maxBody bytes. The buffer grows by Content-Length at once, which check and the limiters bound.
func readBody(b *bytes.Buffer, w http.ResponseWriter, r *http.Request) *unreadableError {
	if r.ContentLength > 0 {
		b.Grow(int(r.ContentLength) + bytes.MinRead) // ReadFrom needs MinRead bytes of room to see the end
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

// skipped are the types of a pod's fields that no decision reads. In many pods they are most of the JSON. The list has
// what is skipped instead of what is read, so a field that a later release reads is decoded already.
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

// withEnv and withoutEnv decode as the API server does (sigs.k8s.io/json): of two members of one name the last counts,
// and bytes that are not UTF-8 become U+FFFD.
var (
	withEnv = json.JoinOptions(
		jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true), json.WithUnmarshalers(skipped),
	)
	withoutEnv = json.JoinOptions(
		withEnv, json.WithUnmarshalers(json.JoinUnmarshalers(skip[[]corev1.EnvVar](), skipped)),
	)
)

// istioNames is the beginning of the names of Istio's containers. Their environment shows how they capture traffic, so
// environments are decoded only if the review may have such a container.
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
		return nil, malformed(http.StatusBadRequest, "apiVersion %q, kind %q: must be an AdmissionReview of %s",
			v.APIVersion, v.Kind, admissionv1.SchemeGroupVersion)
	case v.Request == nil:
		return nil, malformed(http.StatusBadRequest, "request: required in an AdmissionReview")
	case v.Request.UID == "":
		return nil, malformed(http.StatusBadRequest, "request.uid: required in an AdmissionReview")
	}
	return v.Request, nil
}

// buffers are reused by later reviews. Decoding and sending copy everything out of them.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func putBuffer(b *bytes.Buffer) {
	if b.Cap() <= smallBody+bytes.MinRead {
		b.Reset()
		buffers.Put(b)
	}
}

// unexpected returns the message for a request that the chart's configuration does not send: everything except the
// CREATE of a pod. It returns "" for an expected request.
func (r *request) unexpected() string {
	const rule = "redis-tls accepts only CREATE of v1 Pods; fix the rules of its MutatingWebhookConfiguration"
	switch {
	case r.Kind != metav1.GroupVersionKind{Version: "v1", Kind: "Pod"} || r.SubResource != "":
		return fmt.Sprintf("kind %q, version %q, group %q, subresource %q: %s",
			r.Kind.Kind, r.Kind.Version, r.Kind.Group, r.SubResource, rule)
	case r.Operation != admissionv1.Create:
		return fmt.Sprintf("operation %q: %s", r.Operation, rule)
	case r.Object == nil:
		return "object: required; " + rule
	case r.Namespace == "":
		return "namespace: required; " + rule
	}
	return ""
}

// name returns the pod's name for logs, or its generateName.
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
