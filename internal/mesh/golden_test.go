package mesh_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

var update = flag.Bool("update", false, "write testdata/*/want.yaml anew")

// TestObjectsOfEachShape compares the objects for testdata/<case>/claims.yaml, beside the entries in
// existing.yaml, with want.yaml. A directory with other or missing files fails.
func TestObjectsOfEachShape(t *testing.T) {
	dirs, err := filepath.Glob("testdata/*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no cases found: %v", err)
	}
	for _, dir := range dirs {
		if filepath.Base(dir) == "fuzz" {
			continue
		}
		t.Run(filepath.Base(dir), func(t *testing.T) {
			expectFiles(t, dir)
			var claims []mesh.Claim
			if err := yaml.UnmarshalStrict(read(t, dir, "claims.yaml"), &claims); err != nil {
				t.Fatal(err)
			}
			around := mesh.Surroundings{Namespace: "shop", RootNamespace: "istio-system", CertManager: true, Entries: existing(t, dir)}
			got := render(t, mesh.Objects(claims, around, testConfig()))
			path := filepath.Join(dir, "want.yaml")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(read(t, dir, "want.yaml")), string(got)); diff != "" {
				t.Errorf("objects differ from %s; if they are right, run with -update (-want +got):\n%s", path, diff)
			}
		})
	}
}

func expectFiles(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !slices.Contains([]string{"claims.yaml", "existing.yaml", "want.yaml"}, f.Name()) {
			t.Errorf("%s: no test reads it", filepath.Join(dir, f.Name()))
		}
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func existing(t *testing.T, dir string) []*networkingv1.ServiceEntry {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "existing.yaml"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var entries []*networkingv1.ServiceEntry
	for _, doc := range bytes.Split(b, []byte("\n---\n")) {
		e := &networkingv1.ServiceEntry{}
		if err := yaml.Unmarshal(doc, e); err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return entries
}

// render writes what is desired as YAML documents, and the refusals as comments.
func render(t *testing.T, d mesh.Desired) []byte {
	t.Helper()
	var docs []string
	add := func(object any) {
		b, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(b, &fields); err != nil {
			t.Fatal(err)
		}
		delete(fields, "status") // the API server's, always empty here
		out, err := yaml.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, string(out))
	}
	for _, o := range d.All() {
		add(o)
	}
	for _, r := range d.Refused {
		docs = append(docs, fmt.Sprintf("# refused: %s revision %q, %s: %s\n", r.Claim.Workload, r.Claim.Revision, r.Problem.Reason, r.Problem.Err))
	}
	return []byte(strings.Join(docs, "---\n"))
}

func testConfig() config.Config {
	return config.Config{Istio: config.Istio{RootNamespace: "istio-system", TrustDomain: "cluster.local", SystemRoots: "/etc/ssl/certs/ca-certificates.crt"}}
}
