package probe

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/redis-tls/redis-tls/test/catalog"
)

const document = "../../../../docs/probe.md"

// TestDocumentHasEveryField: docs/probe.md names every field of the JSON, which is stable.
func TestDocumentHasEveryField(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []any{
		Report{}, ConfigMap{}, Endpoint{}, TLS{}, Certificate{}, Server{}, Node{}, Provider{}, Fact{},
	} {
		for field := range reflect.TypeOf(value).Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name == "" || !strings.Contains(string(text), "`"+name+"`") {
				t.Errorf("%T.%s: the document does not have %q", value, field.Name, name)
			}
		}
	}
}

// TestDocumentShowsTheOutput: the sample in docs/probe.md is that of a case.
func TestDocumentShowsTheOutput(t *testing.T) {
	const shown = "the last CA of a given bundle"
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	golden, err := txtar.ParseFile("messages/TestProbe.txtar")
	if err != nil {
		t.Fatal(err)
	}
	sample := regexp.MustCompile("(?s)\n\n```\n(.*?)```\n")
	for _, file := range golden.Files {
		if file.Name != shown {
			continue
		}
		want := sample.ReplaceAllLiteralString(string(text), "\n\n```\n"+string(file.Data)+"```\n")
		if want == string(text) {
			return
		}
		if !*catalog.Update {
			t.Fatal("the sample is not the output; go test -update writes it")
		}
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no case %q", shown)
}
