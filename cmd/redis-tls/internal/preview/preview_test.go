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
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/term"
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
	if err != nil || len(problemsOf(result)) > 0 {
		t.Fatal(err, problemsOf(result))
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
	if err != nil || len(problemsOf(result)) > 0 {
		t.Fatal(err, problemsOf(result))
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
			painter := term.Painter{Colour: tt.colour}
			if err := Diff(&out, []*manifest.File{file}, []string{"- --a\n- c"}, created, painter); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
	var out bytes.Buffer
	err := Diff(&out, []*manifest.File{file}, Texts([]*manifest.File{file}), nil, term.Painter{Colour: true})
	if err != nil || out.Len() > 0 {
		t.Errorf("nothing changed: %q, %v", out.String(), err)
	}
}

// problemsOf returns the findings that prevent the admission.
func problemsOf(result Result) []Finding { return findingsOf(result, Problem) }

func findingsOf(result Result, severity Severity) []Finding {
	return slices.DeleteFunc(slices.Clone(result.Findings), func(f Finding) bool { return f.Severity != severity })
}

// TestMessages has the problems and warnings that this package finds itself. Those of other packages are in the goldens
// of cmd/redis-tls.
func TestMessages(t *testing.T) {
	c := catalog.Open(t)
	const deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: cart\n"
	const template = "  template:\n    metadata:\n%s    spec:\n      containers: []\n"
	const key = "redis-tls/host: redis.example.com\n"
	unlabelled := strings.Replace(pod, "sidecar.istio.io/inject", "app", 1)
	namespace := func(metadata string) string {
		return "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n" + metadata
	}
	for _, test := range []struct {
		name, input string
		severity    Severity
		reason      string
		line        int
		object      string
		path        string // in the object
	}{
		{
			name:     "a number as an annotation",
			input:    namespace("  annotations:\n    redis-tls/port: 6379\n  labels: {redis-tls/injection: enabled}\n"),
			severity: Problem,
			reason:   ReasonInvalidManifest,
			line:     6,
			object:   "Namespace/shop",
			path:     "metadata.annotations[redis-tls/port]",
		},
		{
			name:     "a list as labels",
			input:    namespace("  labels: []\n"),
			severity: Problem,
			reason:   ReasonInvalidManifest,
			line:     5,
			object:   "Namespace/shop",
			path:     "metadata.labels",
		},
		{
			name:     "a string as metadata",
			input:    deployment + "spec:\n  template:\n    metadata: app\n",
			severity: Problem,
			reason:   ReasonInvalidManifest,
			line:     7,
			object:   "Deployment/cart",
			path:     "spec.template.metadata",
		},
		{
			name:     "a workload without a pod template",
			input:    deployment + "spec: {}\n",
			severity: Problem,
			reason:   ReasonInvalidManifest,
			line:     5,
			object:   "Deployment/cart",
			path:     "spec.template",
		},
		{
			name:     "a namespace that the input does not describe",
			input:    unlabelled + "---\n" + strings.Replace(unlabelled, "name: p", "name: q", 1),
			severity: Warning,
			reason:   ReasonNoNamespace,
			line:     1,
			object:   "Pod/p",
		},
		{
			name:     "an annotation of a workload",
			input:    deployment + "  annotations:\n    " + key + "spec:\n" + fmt.Sprintf(template, ""),
			severity: Warning,
			reason:   ReasonUnreadKey,
			line:     6,
			object:   "Deployment/cart",
			path:     "metadata.annotations[redis-tls/host]",
		},
		{
			name:     "the label inject of a workload",
			input:    deployment + "  labels:\n    redis-tls/inject: \"false\"\nspec:\n" + fmt.Sprintf(template, ""),
			severity: Warning,
			reason:   ReasonUnreadKey,
			line:     6,
			object:   "Deployment/cart",
			path:     "metadata.labels[redis-tls/inject]",
		},
		{
			name:     "a label of a pod template",
			input:    deployment + "spec:\n" + fmt.Sprintf(template, "      labels:\n        "+key),
			severity: Warning,
			reason:   ReasonUnreadKey,
			line:     9,
			object:   "Deployment/cart",
			path:     "spec.template.metadata.labels[redis-tls/host]",
		},
		{
			name: "an annotation of a template in a list",
			input: "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata:\n  name: w\nspec:\n" +
				"  templates:\n  - metadata:\n      annotations:\n        " + key,
			severity: Warning,
			reason:   ReasonUnreadKey,
			line:     9,
			object:   "Workflow/w",
			path:     "spec.templates[0].metadata.annotations[redis-tls/host]",
		},
		{
			name: "an annotation in wrong case of a Service",
			input: "apiVersion: v1\nkind: Service\nmetadata:\n  name: cart\n  annotations:\n" +
				"    Redis-TLS/host: redis.example.com\n",
			severity: Warning,
			reason:   ReasonUnreadKey,
			line:     6,
			object:   "Service/cart",
			path:     "metadata.annotations[Redis-TLS/host]",
		},
		{
			name:     "the values of a chart",
			input:    "podAnnotations:\n  " + key,
			severity: Warning,
			reason:   ReasonUnreadKey,
			line:     2,
			path:     "podAnnotations[redis-tls/host]",
		},
		{
			name:     "an annotation of a namespace without the label",
			input:    namespace("  annotations:\n    " + key),
			severity: Warning,
			reason:   ReasonUnreadKey,
			line:     6,
			object:   "Namespace/shop",
			path:     "metadata.annotations[redis-tls/host]",
		},
		{
			name:     "the label of a namespace as an annotation",
			input:    namespace("  annotations:\n    redis-tls/injection: enabled\n"),
			severity: Warning,
			reason:   ReasonUnreadKey,
			line:     6,
			object:   "Namespace/shop",
			path:     "metadata.annotations[redis-tls/injection]",
		},
		{
			name: "a mesh object that cannot be read",
			input: "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: own}\n" +
				"spec: {hosts: a.example.com}\n",
			severity: Warning,
			reason:   ReasonInvalidManifest,
			line:     1,
			object:   "ServiceEntry/own",
		},
		{
			name:     "a label of a namespace",
			input:    namespace("  labels:\n    " + key),
			severity: Warning,
			reason:   ReasonUnreadKey,
			line:     6,
			object:   "Namespace/shop",
			path:     "metadata.labels[redis-tls/host]",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			result, err := Run(Input{
				Files: []*manifest.File{parse(t, "f.yaml", test.input)}, Namespace: "shop", Config: config.Default(),
			})
			if err != nil {
				t.Fatal(err)
			}
			// The pods of a namespace without injection are warned about first.
			found := slices.DeleteFunc(result.Findings, func(f Finding) bool { return f.Reason == ReasonAdmissionWarning })
			want := Finding{
				Severity: test.severity, Reason: test.reason, File: "f.yaml", Line: test.line, Document: 1,
				Object: test.object, Path: test.path,
			}
			for _, f := range found {
				c.Add(test.name, f.Message)
			}
			if diff := cmp.Diff([]Finding{want}, found, cmpopts.IgnoreFields(Finding{}, "Message", "Namespace")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestKeysThatPodsGetAreNotWarnedAbout proves that no place that the webhook reads, and nothing that redis-tls writes,
// is reported as unread.
func TestKeysThatPodsGetAreNotWarnedAbout(t *testing.T) {
	const meta = "metadata:\n  labels: {app: a, redis-tls/inject: \"true\", redis-tls/injected: \"true\", " +
		"redis-tls/to-abc: \"true\"}\n  annotations: {redis-tls/host: redis.example.com, redis-tls/inject: \"true\", " +
		"redis-tls/status: \"{}\"}\n"
	const spec = "spec: {containers: []}\n"
	at := func(head, indent string) string {
		return head + indent + strings.ReplaceAll(strings.TrimSuffix(meta+spec, "\n"), "\n", "\n"+indent) + "\n"
	}
	const injection = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n" +
		"  annotations: {redis-tls/host: redis.example.com}\n  labels: {redis-tls/injection: %s}\n"
	for name, input := range map[string]string{
		"a pod":        "apiVersion: v1\nkind: Pod\n" + meta + spec,
		"a Deployment": at("apiVersion: apps/v1\nkind: Deployment\nspec:\n  template:\n", "    "),
		"a CronJob": at("apiVersion: batch/v1\nkind: CronJob\nspec:\n  jobTemplate:\n    spec:\n"+
			"      template:\n", "        "),
		"a Knative Service": at("apiVersion: serving.knative.dev/v1\nkind: Service\nspec:\n  template:\n", "    "),
		"a PodTemplate":     at("apiVersion: v1\nkind: PodTemplate\ntemplate:\n", "  "),
		"a JobSet": at("apiVersion: jobset.x-k8s.io/v1\nkind: JobSet\nspec:\n  replicatedJobs:\n  - template:\n"+
			"      spec:\n        template:\n", "          "),
		"a Namespace":          fmt.Sprintf(injection, "enabled"),
		"a disabled Namespace": fmt.Sprintf(injection, "disabled"),
		"a selector": "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n}\n" +
			"spec: {podSelector: {matchLabels: {redis-tls/inject: \"true\"}}}\n",
		"a managed object": "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: r\n" +
			"  labels: {app.kubernetes.io/managed-by: redis-tls}\n  annotations: {redis-tls/lingering: x}\n",
		"what looks like a pod template": "apiVersion: example.com/v1\nkind: Form\nspec:\n  template:\n" +
			"    spec: {containers: [a, b]}\n",
		"keys of other domains": "apiVersion: v1\nkind: Service\nmetadata:\n  name: s\n" +
			"  annotations: {example.com/redis-tls: x, my-redis-tls/host: x}\n",
	} {
		t.Run(name, func(t *testing.T) {
			result, err := Run(Input{
				Files: []*manifest.File{parse(t, "f.yaml", input)}, Namespace: "shop", Config: config.Default(),
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range result.Findings {
				if f.Reason == ReasonUnreadKey || f.Reason == ReasonInvalidManifest {
					t.Error(f)
				}
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
	found := slices.DeleteFunc(findingsOf(result, Warning), func(f Finding) bool { return f.File != "own.yaml" })
	if len(found) != 1 {
		t.Fatalf("got %v, want one warning about the object", result.Findings)
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
