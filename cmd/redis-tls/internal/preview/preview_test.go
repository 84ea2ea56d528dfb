package preview

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

const pod = `apiVersion: v1
kind: Pod
metadata:
  name: p
  labels:
    sidecar.istio.io/inject: "true"
  annotations:
    redis-tls/host: redis.example.com
spec:
  containers:
  - name: app
    image: app:1
`

func parse(t *testing.T, name, text string) *manifest.File {
	t.Helper()
	file, err := manifest.Parse(name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestStepsParsesFieldPaths(t *testing.T) {
	for path, want := range map[string][]any{
		"spec.hostNetwork":                       {"spec", "hostNetwork"},
		"spec.containers[12].name":               {"spec", "containers", 12, "name"},
		"metadata.annotations[a.redis-tls/port]": {"metadata", "annotations", "a.redis-tls/port"},
	} {
		if diff := cmp.Diff(want, steps(path)); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
}

// TestTemplatesKeepFieldsThatControllersAlsoWrite proves that the additions of a workload's controllers do not appear
// in the template, and that the template's own fields of the same names stay.
func TestTemplatesKeepFieldsThatControllersAlsoWrite(t *testing.T) {
	const deployment = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: d
spec:
  template:
    apiVersion: odd
    metadata:
      namespace: odd
      generateName: odd-
      labels:
        pod-template-hash: odd
        sidecar.istio.io/inject: "true"
      annotations:
        redis-tls/host: redis.example.com
    spec:
      containers: []
`
	file := parse(t, "d.yaml", deployment)
	before, _ := convert[map[string]any](lookup(file.Documents[0].Value, []any{"spec", "template"}))
	result, err := Run(Input{Files: []*manifest.File{file}, Namespace: "shop", Config: config.Default()})
	if err != nil || len(result.Problems) > 0 {
		t.Fatal(err, result.Problems)
	}
	after := lookup(file.Documents[0].Value, []any{"spec", "template"}).(map[string]any)
	for _, path := range [][]any{
		{"apiVersion"}, {"kind"}, {"metadata", "namespace"}, {"metadata", "generateName"}, {"metadata", "ownerReferences"},
		{"metadata", "labels", "pod-template-hash"},
	} {
		if diff := cmp.Diff(lookup(before, path), lookup(after, path)); diff != "" {
			t.Errorf("%v: %s", path, diff)
		}
	}
	if lookup(after, []any{"metadata", "annotations", origination.AnnotationStatus}) == nil {
		t.Error("not injected")
	}
}

func TestKeysOfTheInputHaveDifferentVIPs(t *testing.T) {
	cfg := config.Default()
	cfg.VIP.CIDR = netip.MustParsePrefix("251.0.0.0/29") // six addresses for six keys
	var files []*manifest.File
	for n := range 6 {
		of := strings.NewReplacer(
			"name: p",
			fmt.Sprintf("name: p\n  namespace: team-%d", n%3),
			"redis.example.com",
			fmt.Sprintf("redis-%d.example.com", n/3),
		)
		files = append(files, parse(t, "p.yaml", of.Replace(pod)))
	}
	result, err := Run(Input{Files: files, Config: cfg})
	if err != nil || len(result.Problems) > 0 {
		t.Fatal(err, result.Problems)
	}
	seen := map[string]string{}
	for n, file := range files {
		_, vip, _ := strings.Cut(lookup(file.Documents[0].Value, []any{
			"metadata",
			"annotations",
			origination.AnnotationVIPs,
		}).(string), "=")
		if other, taken := seen[vip]; taken {
			t.Errorf("pod %d and pod %s have the VIP %s", n, other, vip)
		}
		seen[vip] = fmt.Sprint(n)
	}
}

func TestYAMLJoinsTexts(t *testing.T) {
	tests := []struct {
		name  string
		texts []string
		want  string
	}{
		{"a separator between", []string{"a: 1\n", "b: 1\n"}, "a: 1\n---\nb: 1\n---\nc: 1\n"},
		{"an existing separator", []string{"a: 1\n", "---\nb: 1\n"}, "a: 1\n---\nb: 1\n---\nc: 1\n"},
		{"a missing line end", []string{"a: 1", "b: 1"}, "a: 1\n---\nb: 1\n---\nc: 1\n"},
		{"empty files", []string{"", "\n"}, "c: 1\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := YAML(tt.texts, []any{map[string]any{"c": json.Number("1")}})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDiff(t *testing.T) {
	file := parse(t, "f.yaml", "- --b\n- c")
	created := []any{map[string]any{"n": true}}
	tests := []struct {
		name   string
		colour bool
		want   string
	}{
		{"plain", false, "--- f.yaml\n+++ f.yaml\n@@ -1,2 +1,2 @@\n-- --a\n+- --b\n - c\n\\ No newline at end of file\n" +
			"--- /dev/null\n+++ redis-tls.yaml\n@@ -0,0 +1 @@\n+\"n\": true\n"},
		{"on a terminal", true, "\x1b[1m--- f.yaml\x1b[22m\n\x1b[1m+++ f.yaml\x1b[22m\n\x1b[36m@@ -1,2 +1,2 @@\x1b[0m\n" +
			"\x1b[31m-- --a\x1b[0m\n\x1b[32m+- --b\x1b[0m\n - c\n\\ No newline at end of file\n" +
			"\x1b[1m--- /dev/null\x1b[22m\n\x1b[1m+++ redis-tls.yaml\x1b[22m\n" +
			"\x1b[36m@@ -0,0 +1 @@\x1b[0m\n\x1b[32m+\"n\": true\x1b[0m\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := Diff(&out, []*manifest.File{file}, []string{"- --a\n- c"}, created, tt.colour); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
	var out bytes.Buffer
	if err := Diff(&out, []*manifest.File{file}, Texts([]*manifest.File{file}), nil, true); err != nil || out.Len() > 0 {
		t.Errorf("nothing changed: %q, %v", out.String(), err)
	}
}

// TestMessages has the problems and warnings that this package finds itself. Those of other packages are in the goldens
// of cmd/redis-tls.
func TestMessages(t *testing.T) {
	c := catalog.Open(t)
	const deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: cart\n"
	unlabelled := strings.Replace(pod, "sidecar.istio.io/inject", "app", 1)
	namespace := func(metadata string) string {
		return "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n" + metadata
	}
	for _, test := range []struct {
		name, input  string
		line         int
		object, want string // want is a part of the message
		warning      bool
	}{
		{
			name:   "a number as an annotation",
			input:  namespace("  annotations:\n    redis-tls/port: 6379\n"),
			line:   6,
			object: "Namespace/shop",
			want:   "metadata.annotations[redis-tls/port]",
		},
		{
			name:   "a list as labels",
			input:  namespace("  labels: []\n"),
			line:   5,
			object: "Namespace/shop",
			want:   "metadata.labels",
		},
		{
			name:   "a string as metadata",
			input:  deployment + "spec:\n  template:\n    metadata: app\n",
			line:   6,
			object: "Deployment/cart",
			want:   "metadata",
		},
		{
			name:   "a workload without a pod template",
			input:  deployment + "spec: {}\n",
			line:   5,
			object: "Deployment/cart",
			want:   "spec.template",
		},
		{
			name:    "a namespace that the input does not describe",
			input:   unlabelled + "---\n" + strings.Replace(unlabelled, "name: p", "name: q", 1),
			line:    1,
			object:  "Pod/p",
			want:    "namespace shop",
			warning: true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			result, err := Run(Input{
				Files: []*manifest.File{parse(t, "f.yaml", test.input)}, Namespace: "shop", Config: config.Default(),
			})
			if err != nil {
				t.Fatal(err)
			}
			found := result.Problems
			if test.warning {
				// The pods of a namespace without injection are warned about first.
				found = slices.DeleteFunc(result.Warnings, func(f Finding) bool {
					return !strings.Contains(
						f.Message,
						"namespace-file",
					)
				})
			}
			want := []Finding{{File: "f.yaml", Line: test.line, Document: 1, Object: test.object}}
			for _, f := range found {
				if !strings.Contains(f.Message, test.want) {
					t.Errorf("got %q, want a message with %q", f.Message, test.want)
				}
				c.Add(test.name, f.Message)
			}
			if diff := cmp.Diff(want, found, cmpopts.IgnoreFields(Finding{}, "Message")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUnmanagedObjectWithTheNameOfAManagedOneIsAWarning(t *testing.T) {
	c := catalog.Open(t)
	annotated := parse(t, "p.yaml", strings.Replace(pod, "name: p", "name: p\n  namespace: shop", 1))
	result, err := Run(Input{Files: []*manifest.File{annotated}, Config: config.Default()})
	if err != nil || len(result.Created) == 0 {
		t.Fatal(err, result)
	}
	created := result.Created[0].(map[string]any)
	delete(created["metadata"].(map[string]any), "labels")
	created["spec"] = map[string]any{"hosts": []any{"other.example.com"}} // with those of redis-tls the pod is refused
	text, err := YAML(nil, []any{created})
	if err != nil {
		t.Fatal(err)
	}
	again := parse(t, "p.yaml", strings.Replace(pod, "name: p", "name: p\n  namespace: shop", 1))
	result, err = Run(Input{Files: []*manifest.File{again, parse(t, "own.yaml", text)}, Config: config.Default()})
	if err != nil {
		t.Fatal(err)
	}
	found := slices.DeleteFunc(result.Warnings, func(f Finding) bool { return f.File != "own.yaml" })
	if len(found) != 1 {
		t.Fatalf("got %v, want one warning about the object", result.Warnings)
	}
	c.Add("the warning", found[0].Message)
}

func TestWithDoesNotChangeTheOriginal(t *testing.T) {
	value := map[string]any{"a": []any{map[string]any{"b": "x"}, "c"}}
	changed := with(value, []any{"a", 0, "b"}, "y")
	if diff := cmp.Diff(map[string]any{"a": []any{map[string]any{"b": "x"}, "c"}}, value); diff != "" {
		t.Errorf("the original changed: %s", diff)
	}
	if diff := cmp.Diff(any(map[string]any{"a": []any{map[string]any{"b": "y"}, "c"}}), changed); diff != "" {
		t.Error(diff)
	}
}
