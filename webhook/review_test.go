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
		{"no body", "POST", "application/json", func(*testing.T) []byte { return nil }, 400},
		{"garbage", "POST", "application/json", func(*testing.T) []byte { return []byte("\x00{") }, 400},
		{
			"JSON after the review",
			"POST",
			"application/json",
			func(t *testing.T) []byte { return append(valid(t), "{}"...) },
			400,
		},
		{"a syntax error in what is skipped", "POST", "application/json", func(t *testing.T) []byte {
			return bytes.Replace(valid(t), []byte(`"value":"b"`), []byte(`"value":b`), 1)
		}, 400},
		{"no request", "POST", "application/json", func(*testing.T) []byte {
			return []byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`)
		}, 400},
		{"a null request", "POST", "application/json", func(*testing.T) []byte {
			return []byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}`)
		}, 400},
		{"no uid", "POST", "application/json", func(t *testing.T) []byte {
			return newReview(t, newPod(requesting), func(r *admissionv1.AdmissionRequest) { r.UID = "" })
		}, 400},
		{"an older version", "POST", "application/json", func(t *testing.T) []byte {
			return bytes.Replace(valid(t), []byte("admission.k8s.io/v1"), []byte("admission.k8s.io/v1beta1"), 1)
		}, 400},
		{"a pod where the review should be", "POST", "application/json", func(*testing.T) []byte {
			return []byte(`{"apiVersion":"v1","kind":"Pod"}`)
		}, 400},
		{"a string for an object", "POST", "application/json", func(t *testing.T) []byte {
			return newReview(t, nil, func(r *admissionv1.AdmissionRequest) { r.Object.Raw = []byte(`"x"`) })
		}, 400},
		{"GET", "GET", "application/json", valid, 405},
		{"another media type", "POST", "application/yaml", valid, 415},
		{"no media type", "POST", "", valid, 415},
		{
			"more than the limit",
			"POST",
			"application/json",
			func(*testing.T) []byte { return bytes.Repeat([]byte(" "), maxBody+1) },
			413,
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
