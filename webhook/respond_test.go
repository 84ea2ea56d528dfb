package webhook

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

func TestWarningsAreBounded(t *testing.T) {
	c := catalog.Open(t)
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
	last := got[len(got)-1]
	c.Add("100 warnings", last)
	if !strings.Contains(last, "93 more") {
		t.Errorf("the last warning, %q, does not count the rest", last)
	}
	if exact := bounded(many[:mostWarnings]); strings.Contains(exact[mostWarnings-1], "more") {
		t.Errorf("%d warnings are cut", mostWarnings)
	}
}

func TestPatchIsEncodedAsTheLibraryDoes(t *testing.T) {
	operations := []jsonpatch.Operation{
		jsonpatch.NewOperation("add", "/metadata/annotations/redis-tls~1status", `{"a":"<b>"}`),
		jsonpatch.NewOperation("add", "/spec/hostAliases/-", corev1.HostAlias{IP: "240.241.0.1", Hostnames: []string{"h"}}),
		jsonpatch.NewOperation("replace", "/spec/y", ""),
		jsonpatch.NewOperation("remove", "/metadata/labels/z", nil),
	}
	got, err := encode(operations, new(bytes.Buffer))
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

func TestPatchThatCannotBeEncodedIsARefusal(t *testing.T) {
	c := catalog.Open(t)
	decision := inject.Decision{
		Allowed:    true,
		Reason:     origination.ReasonInjected,
		Operations: []jsonpatch.Operation{jsonpatch.NewOperation("add", "/spec/x", func() {})},
	}
	body := new(bytes.Buffer)
	if err := writeReview(body, "u-1", decision, ""); err != nil {
		t.Fatal(err)
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(body.Bytes(), &review); err != nil {
		t.Fatal(err)
	}
	response := review.Response
	if response.Allowed || response.Patch != nil || response.Result.Code != http.StatusInternalServerError {
		t.Errorf("got %+v, want a refusal with code 500", response)
	}
	c.Add("a value that JSON cannot express", response.Result.Message)
}
