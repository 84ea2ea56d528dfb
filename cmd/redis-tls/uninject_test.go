package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
)

// alreadyInjected are the cases of inject whose input has parts that only redis-tls writes. These are removed too.
var alreadyInjected = []string{"managed-objects-are-repaired", "what-users-wrote-stays"}

// copies are the cases of a copied pod. Inject removes its VIPs' names, so the host alias then counts as the user's.
const copies = "what-only-the-webhook-writes-is-removed"

// TestUninjectIsTheInverseOfInject runs inject and uninject on each case of inject that succeeds, and on each example.
// The manifests must read as before. In block style, their text must be the same.
func TestUninjectIsTheInverseOfInject(t *testing.T) {
	cases, err := filepath.Glob("testdata/*/input.yaml")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	examples, err := filepath.Glob("../../examples/*")
	if err != nil || len(examples) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	inverted, same := 0, 0
	for _, input := range append(cases, examples...) {
		name := filepath.Base(filepath.Dir(input))
		t.Run(name+"/"+filepath.Base(input), func(t *testing.T) {
			args := []string{"inject"}
			if filepath.Base(input) == "input.yaml" {
				var present []string
				entries, _ := os.ReadDir(filepath.Dir(input))
				for _, e := range entries {
					present = append(present, e.Name())
				}
				args = caseArgs(filepath.Dir(input), present)
			}
			injected, _, err := run("", append(args, "-f", input)...)
			if err != nil || name == copies {
				return
			}
			got, stderr, err := run(injected, "uninject", "-f", "-")
			if err != nil {
				t.Fatal(stderr)
			}
			files, err := manifest.Read(input, nil)
			if err != nil {
				t.Fatal(err)
			}
			if slices.Contains(alreadyInjected, name) {
				want, stderr, err := run("", "uninject", "-f", input)
				if err != nil {
					t.Fatal(stderr)
				}
				if diff := cmp.Diff(valuesOf(t, want), valuesOf(t, got)); diff != "" {
					t.Errorf("-uninject +uninject after inject:\n%s", diff)
				}
				return
			}
			var before []any
			var text strings.Builder
			for _, file := range files {
				before = append(before, valuesIn(file)...)
				text.WriteString(file.Text())
			}
			if diff := cmp.Diff(before, valuesOf(t, got)); diff != "" {
				t.Errorf("uninject after inject changes the manifests (-before +after):\n%s", diff)
			}
			if inverted++; text.String() == got {
				same++
			} else if !strings.ContainsAny(text.String(), "{[") && len(files) == 1 {
				t.Errorf("uninject after inject changes the text (-before +after):\n%s", cmp.Diff(text.String(), got))
			}
		})
	}
	if inverted < 20 || same < 10 {
		t.Errorf("%d cases were inverted, %d with the same text; want at least 20 and 10", inverted, same)
	}
}

func valuesOf(t *testing.T, text string) []any {
	t.Helper()
	file, err := manifest.Parse("output", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return valuesIn(file)
}

// valuesIn returns the values of the documents as plain JSON.
func valuesIn(file *manifest.File) (values []any) {
	for _, d := range file.Documents {
		if d.Value != nil {
			text, _ := json.Marshal(d.Value)
			values = append(values, string(text))
		}
	}
	return values
}

// TestUninjectKeepsWhatUsersWrote: entries, aliases, labels, volumes and gates of a user stay in their places.
func TestUninjectKeepsWhatUsersWrote(t *testing.T) {
	const user = `apiVersion: v1
kind: Pod
metadata:
  name: cart
  labels:
    app: cart # of the user
  annotations:
    # Of the user.
    redis-tls/host: redis.example.com
    sidecar.istio.io/userVolume: '[{"name":"own","emptyDir":{}}]'
spec:
  hostAliases:
  - ip: 10.0.0.9
    hostnames: [other.example.com]
  - ip: 240.241.0.9
    hostnames: [not-recorded.example.com]
  schedulingGates:
  - name: example.com/gate
  containers:
  - name: app
    image: app:1
  volumes:
  - name: redis-tls-mine
    emptyDir: {}
`
	injected := strings.NewReplacer(
		"    app: cart # of the user\n", "    app: cart # of the user\n    redis-tls/injected: \"true\"\n"+
			"    redis-tls/to-abcdefghijklmnop: \"true\"\n",
		`"emptyDir":{}}]'`, `"emptyDir":{}},{"name":"redis-tls-abcdefghijklmnop","secret":{"secretName":"ca"}}]'`+"\n"+
			`    sidecar.istio.io/userVolumeMount: '{"redis-tls-abcdefghijklmnop":`+
			`{"mountPath":"/etc/redis-tls/redis.example.com/","readOnly":true}}'`+"\n"+
			`    redis-tls/status: '{"version":"v1","request":{"redis-tls/host":"redis.example.com"}}'`+"\n"+
			`    redis-tls/vips: redis.example.com=240.241.3.4`+"\n"+
			`    redis-tls/first-use: "2026-01-01T00:00:00Z"`,
		"    hostnames: [not-recorded.example.com]\n", "    hostnames: [not-recorded.example.com]\n"+
			"  - ip: 240.241.3.4\n    hostnames:\n    - redis.example.com\n",
		"  - name: example.com/gate\n", "  - name: example.com/gate\n  - name: redis-tls/first-use\n",
		"    image: app:1\n", "    image: app:1\n"+
			"    volumeMounts:\n    - name: redis-tls-abcdefghijklmnop\n      mountPath: /x\n",
		"    emptyDir: {}\n", "    emptyDir: {}\n  - name: redis-tls-abcdefghijklmnop\n    secret:\n      secretName: ca\n",
	).Replace(user)
	const rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: x\n" +
		"  labels:\n    app.kubernetes.io/managed-by: redis-tls\nspec:\n  host: x\n"
	const other = "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: y\n" +
		"  labels:\n    app.kubernetes.io/managed-by: Helm\n"
	got, stderr, err := run(injected+rule+other, "uninject", "-f", "-")
	if err != nil {
		t.Fatal(stderr)
	}
	if diff := cmp.Diff(user+other, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
