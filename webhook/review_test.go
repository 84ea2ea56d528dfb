package webhook

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/test/catalog"
)

func TestUnreadableRequestsGetA4xx(t *testing.T) {
	c := catalog.Open(t)
	valid := func(t *testing.T) []byte { return newReview(t, newPod(requesting)) }
	for _, tc := range []struct {
		name   string
		method string
		media  string
		body   func(t *testing.T) []byte
		want   int
	}{
		{
			name:   "no body",
			method: "POST",
			media:  "application/json",
			body:   func(*testing.T) []byte { return nil },
			want:   400,
		},
		{
			name:   "garbage",
			method: "POST",
			media:  "application/json",
			body:   func(*testing.T) []byte { return []byte("\x00{") },
			want:   400,
		},
		{
			name:   "JSON after the review",
			method: "POST",
			media:  "application/json",
			body:   func(t *testing.T) []byte { return append(valid(t), "{}"...) },
			want:   400,
		},
		{
			name:   "a syntax error in what is skipped",
			method: "POST",
			media:  "application/json",
			body: func(t *testing.T) []byte {
				return bytes.Replace(valid(t), []byte(`"value":"b"`), []byte(`"value":b`), 1)
			},
			want: 400,
		},
		{
			name:   "no request",
			method: "POST",
			media:  "application/json",
			body: func(*testing.T) []byte {
				return []byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`)
			},
			want: 400,
		},
		{
			name:   "a null request",
			method: "POST",
			media:  "application/json",
			body: func(*testing.T) []byte {
				return []byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}`)
			},
			want: 400,
		},
		{
			name:   "no uid",
			method: "POST",
			media:  "application/json",
			body: func(t *testing.T) []byte {
				return newReview(t, newPod(requesting), func(r *admissionv1.AdmissionRequest) { r.UID = "" })
			},
			want: 400,
		},
		{
			name:   "an older version",
			method: "POST",
			media:  "application/json",
			body: func(t *testing.T) []byte {
				return bytes.Replace(valid(t), []byte("admission.k8s.io/v1"), []byte("admission.k8s.io/v1beta1"), 1)
			},
			want: 400,
		},
		{
			name:   "a pod where the review should be",
			method: "POST",
			media:  "application/json",
			body: func(*testing.T) []byte {
				return []byte(`{"apiVersion":"v1","kind":"Pod"}`)
			},
			want: 400,
		},
		{
			name:   "a string for an object",
			method: "POST",
			media:  "application/json",
			body: func(t *testing.T) []byte {
				return newReview(t, nil, func(r *admissionv1.AdmissionRequest) { r.Object.Raw = []byte(`"x"`) })
			},
			want: 400,
		},
		{
			name:   "GET",
			method: "GET",
			media:  "application/json",
			body:   valid,
			want:   405,
		},
		{
			name:   "another media type",
			method: "POST",
			media:  "application/yaml",
			body:   valid,
			want:   415,
		},
		{
			name:   "no media type",
			method: "POST",
			body:   valid,
			want:   415,
		},
		{
			name:   "more than the limit",
			method: "POST",
			media:  "application/json",
			body:   func(*testing.T) []byte { return bytes.Repeat([]byte(" "), maxBody+1) },
			want:   413,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHandler(t, &view{}, config.PolicyEnforce)
			r := httptest.NewRequest(tc.method, Path, bytes.NewReader(tc.body(t)))
			r.Header.Set("Content-Type", tc.media)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tc.want {
				t.Errorf("got %d (%s), want %d", w.Code, w.Body, tc.want)
			}
			c.Add(tc.name, ourPart(w.Body.String()))
		})
	}
}

// ourPart cuts the text of the JSON library off, which differs from one process to the next.
func ourPart(message string) string {
	const decoding = "decoding the AdmissionReview: "
	if strings.HasPrefix(message, decoding) {
		return decoding + "…"
	}
	return strings.TrimSpace(message)
}

func TestBodyIsLimitedWithoutAContentLength(t *testing.T) {
	h := newHandler(t, &view{}, config.PolicyEnforce)
	read := &counter{Reader: bytes.NewReader(bytes.Repeat([]byte(" "), 4*maxBody))}
	r := httptest.NewRequest(http.MethodPost, Path, read)
	r.ContentLength = -1
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusRequestEntityTooLarge || read.n > 2*maxBody {
		t.Errorf("status %d after %d bytes, want 413 soon after %d", w.Code, read.n, maxBody)
	}
}

func TestContentLengthBeyondTheLimitAllocatesNothing(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, Path, strings.NewReader("{}"))
	r.ContentLength = 1 << 50
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	newHandler(t, &view{}, config.PolicyEnforce).ServeHTTP(w, r)
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

type counter struct {
	io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

func TestCharsetInTheContentTypeIsAccepted(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, Path, bytes.NewReader(newReview(t, newPod(nil))))
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	w := httptest.NewRecorder()
	newHandler(t, &view{}, config.PolicyEnforce).ServeHTTP(w, r)
	answer(t, w)
}
