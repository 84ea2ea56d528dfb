package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"unicode/utf8"

	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// writeReview writes the decision as an AdmissionReview.
func writeReview(body *bytes.Buffer, uid types.UID, decision inject.Decision, message string) error {
	response := &admissionv1.AdmissionResponse{
		UID:      uid,
		Allowed:  decision.Allowed,
		Warnings: bounded(decision.Warnings),
	}
	switch {
	case !decision.Allowed:
		response.Result = refusal(decision.Reason, message)
	case len(decision.Operations) > 0:
		scratch := buffers.Get().(*bytes.Buffer)
		defer putBuffer(scratch)
		patch, err := encode(decision.Operations, scratch)
		if err != nil {
			response.Allowed = false
			message := fmt.Sprintf("redis-tls: encoding the patch: %v", err)
			response.Result = refusal(origination.ReasonInternalError, message)
			break
		}
		patchType := admissionv1.PatchTypeJSONPatch
		response.Patch, response.PatchType = patch, &patchType
	}
	return json.NewEncoder(body).Encode(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Response: response,
	})
}

// refusal returns the status that kubectl prints. Clients that create pods retry after a 5xx and give up after a 4xx,
// so a temporary failure must not be a 4xx.
func refusal(reason origination.Reason, message string) *metav1.Status {
	status := &metav1.Status{Status: metav1.StatusFailure, Message: message}
	switch reason {
	case origination.ReasonNamespaceNotCached:
		status.Code, status.Reason = http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable
	case origination.ReasonInternalError:
		status.Code, status.Reason = http.StatusInternalServerError, metav1.StatusReasonInternalError
	case origination.ReasonMalformedRequest:
		status.Code, status.Reason = http.StatusBadRequest, metav1.StatusReasonBadRequest
	default:
		status.Code, status.Reason = http.StatusForbidden, metav1.StatusReasonForbidden
	}
	return status
}

// operation is jsonpatch.Operation without its MarshalJSON, which encodes every operation twice.
type operation jsonpatch.Operation

// encode returns the JSON patch as bytes of the buffer. Only removals have a nil value: package patches adds and
// replaces maps, lists and strings.
func encode(operations []jsonpatch.Operation, into *bytes.Buffer) ([]byte, error) {
	wire := make([]operation, len(operations))
	for i, o := range operations {
		wire[i] = operation(o)
	}
	e := json.NewEncoder(into)
	e.SetEscapeHTML(false)
	if err := e.Encode(wire); err != nil {
		return nil, err
	}
	return bytes.TrimRight(into.Bytes(), "\n"), nil
}

// If all warnings together exceed 4096 runes, the API server cuts each at 256 runes, without an ellipsis
// (truncateItemRunes and truncateAtTotalRunes in k8s.io/apiserver/pkg/endpoints/filters/warning.go). Warnings of other
// webhooks count too, so those of redis-tls use at most half.
const (
	longestWarning = 256 // runes
	mostWarnings   = 8
)

// bounded returns warnings short and few enough that the API server does not cut them.
func bounded(warnings []string) []string {
	kept := make([]string, 0, min(len(warnings), mostWarnings))
	for i, w := range warnings {
		if i == mostWarnings-1 && len(warnings) > mostWarnings {
			return append(kept, fmt.Sprintf("redis-tls: %d more warnings; run `redis-tls inject` to see all", len(warnings)-i))
		}
		kept = append(kept, cut("redis-tls: "+w, longestWarning))
	}
	return kept
}

// cut shortens s to at most n runes, with an ellipsis.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}
