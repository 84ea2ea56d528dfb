package webhook

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
)

func TestWarningsAreBounded(t *testing.T) {
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
	if last := got[len(got)-1]; !strings.Contains(last, "93 more") {
		t.Errorf("the last one, %q, does not count the rest", last)
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
