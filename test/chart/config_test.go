package chart

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/test/harness"
)

// sameConfig compares configurations. An empty list equals no list.
var sameConfig = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{})}

func TestDefaultsOfTheValuesAreThoseOfTheServer(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(chartDir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := annotation.ParseValues(content)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.Default(), got, sameConfig); diff != "" {
		t.Errorf("values.yaml (-server +values):\n%s", diff)
	}
}

// TestServerAndCommandLineReadTheSame renders each case of testdata. The server's configuration file must equal the
// configuration that redis-tls inject --values reads, except for the release's namespace, which is not in the values.
func TestServerAndCommandLineReadTheSame(t *testing.T) {
	files, err := filepath.Glob("testdata/*/values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("found no values: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			release, err := harness.RenderChart(chartDir, readValues(t, file), nil)
			if err != nil {
				t.Fatal(err)
			}
			configMap, err := release.Find("ConfigMap", "redis-tls-webhook")
			if err != nil {
				t.Fatal(err)
			}
			rendered, _, err := unstructured.NestedString(configMap.Object, "data", "config.yaml")
			if err != nil {
				t.Fatal(err)
			}
			got, err := annotation.ParseConfig([]byte(rendered))
			if err != nil {
				t.Fatalf("the server would not start with its configuration: %v\n%s", err, rendered)
			}
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want, err := annotation.ParseValues(content)
			if err != nil {
				t.Fatal(err)
			}
			want.ExcludedNamespaces = append(want.ExcludedNamespaces, harness.ReleaseNamespace)
			if diff := cmp.Diff(want, got, sameConfig); diff != "" {
				t.Errorf("configuration (-command line +server):\n%s", diff)
			}
		})
	}
}

// TestDefaultsAreTheKeysOfTheTable proves that the schema and the server accept the same annotations as defaults.
func TestDefaultsAreTheKeysOfTheTable(t *testing.T) {
	for _, key := range annotation.Keys() {
		for prefix, want := range map[string]bool{
			"redis-tls/": key.Scope != annotation.ScopePodOnly, "sessions.redis-tls/": key.Scope == annotation.ScopeInstance,
		} {
			_, err := harness.RenderChart(chartDir, map[string]any{"defaults": map[string]any{prefix + key.Name: "x"}}, nil)
			if got := err == nil; got != want {
				t.Errorf("%s%s as a default: accepted %t (%v), want %t", prefix, key.Name, got, err, want)
			}
		}
	}
}

// TestLimitOfKeysIsThatOfTheServer proves that schema and server accept the same numbers.
func TestLimitOfKeysIsThatOfTheServer(t *testing.T) {
	for value, want := range map[int]string{
		-1:   "must be a number from 1 to 1000",
		0:    "must be a number from 1 to 1000",
		1:    "",
		1000: "",
		1001: "must be a number from 1 to 1000",
	} {
		values := fmt.Sprintf("policy: {maxKeysPerNamespace: %d}", value)
		cfg, err := annotation.ParseConfig([]byte(values))
		switch {
		case want == "" && (err != nil || cfg.Policy.MaxKeysPerNamespace != value):
			t.Errorf("%s: the server reads %d (%v)", values, cfg.Policy.MaxKeysPerNamespace, err)
		case want != "" &&
			(err == nil || !strings.Contains(err.Error(), "policy.maxKeysPerNamespace: ") ||
				!strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v from the server, want an error with %q", values, err, want)
		}
		if _, err := harness.RenderChart(chartDir, parseValues(t, values), nil); (err == nil) != (want == "") {
			t.Errorf("%s: got %v from the schema, want the server's answer %q", values, err, want)
		}
	}
}

// TestMetadataOfObjectsIsThatOfTheServer proves that chart and server accept the same labels and annotations. Otherwise
// the replicas of a release would not start.
func TestMetadataOfObjectsIsThatOfTheServer(t *testing.T) {
	for text, want := range map[string]struct{ label, annotation bool }{
		`velero.io/exclude-from-backup: "true"`: {label: true, annotation: true},
		`team: a`:                               {label: true, annotation: true},
		`team: ""`:                              {label: true, annotation: true},
		`example.com/note: a b`:                 {annotation: true},
		`example.com/note: -a`:                  {annotation: true},
		`example.com/note: "` + strings.Repeat("a", 64) + `"`: {annotation: true},
		`example.com/a/b: c`:              {},
		`Example.com/a: c`:                {},
		`example..com/a: c`:               {},
		`example.com/-a: c`:               {},
		`/a: c`:                           {},
		`"": c`:                           {},
		`a: true`:                         {},
		strings.Repeat("a", 64) + `: c`:   {},
		`app.kubernetes.io/managed-by: a`: {},
		`redis-tls/deleting: a`:           {},
		`sessions.redis-tls/host: a`:      {},
		`istio.io/rev: a`:                 {},
		`networking.istio.io/exportTo: a`: {},
		`kubectl.kubernetes.io/last-applied-configuration: a`: {},
	} {
		for name, want := range map[string]bool{"objectLabels": want.label, "objectAnnotations": want.annotation} {
			values := name + ": {" + text + "}"
			_, server := annotation.ParseConfig([]byte(values))
			_, chart := harness.RenderChart(chartDir, parseValues(t, values), nil)
			if (server == nil) != want || (chart == nil) != want {
				t.Errorf("%s: server %v, chart %v, want accepted %t", values, server, chart, want)
			}
		}
	}
}
