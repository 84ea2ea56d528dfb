package mesh_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// TestObjectsOfEachShape compares the objects for the pods of testdata/<case>/pods.yaml with want.yaml. It fails if a
// directory has other files, or does not have these.
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
			snap := &mesh.Snapshot{Namespace: "shop", RootNamespace: "istio-system", CertManager: mesh.Present}
			if live := requests(t, dir, snap); live.Entries != nil {
				snap.Entries, snap.Rules, snap.Routes = live.Entries, live.Rules, live.Routes
			}
			got := render(t, mesh.Objects(snap, testConfig()))
			path := filepath.Join(dir, "want.yaml")
			if *catalog.Update {
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
		if !slices.Contains([]string{"pods.yaml", "want.yaml"}, f.Name()) {
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

// pod is a row of pods.yaml, in the order of their creation.
type pod struct {
	Name           string            `json:"name"`
	Annotations    map[string]string `json:"annotations"`
	ServiceAccount string            `json:"serviceAccount"`
	// Gone says that the pod is deleted, and its objects still exist.
	Gone bool `json:"gone"`
}

// requests admits the pods of pods.yaml one after the other, and returns the remaining objects of deleted ones.
func requests(t *testing.T, dir string, snap *mesh.Snapshot) (remaining mesh.Desired) {
	t.Helper()
	var pods []pod
	if err := yaml.UnmarshalStrict(read(t, dir, "pods.yaml"), &pods); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig()
	for hour, p := range pods {
		result := annotation.Resolve(annotation.Input{
			Namespace:      snap.Namespace,
			Annotations:    p.Annotations,
			ServiceAccount: p.ServiceAccount,
		}, cfg, nil)
		if len(result.Errors) > 0 {
			t.Fatalf("pod %s: %v", p.Name, result.Errors)
		}
		for i := range result.Originations {
			o := &result.Originations[i]
			if problem := mesh.DrawVIPs(o, noAliases, result.Originations[:i], snap, cfg.VIP); problem != nil {
				t.Fatalf("pod %s: %v", p.Name, problem.Err)
			}
		}
		request := claim(p.Name, "1", hour, result.Originations...)
		request.Settings = result.Settings
		if p.Gone {
			remaining = objects(snap, request)
			continue
		}
		snap.Live = append(snap.Live, request)
	}
	return remaining
}

// render returns the desired objects as YAML documents, and the refusals as comments.
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
		docs = append(docs, fmt.Sprintf("# refused: %s, %s: %s\n", r.Claim.Pod, r.Problem.Reason, r.Problem.Err.Field))
	}
	return []byte(strings.Join(docs, "---\n"))
}

func testConfig() config.Config {
	cfg := config.Default()
	cfg.VIP.CIDR = netip.MustParsePrefix("240.241.0.0/16")
	cfg.Policy.AllowInsecure = true
	cfg.FirstUse.Acknowledgement = false // see acknowledgement_test.go
	return cfg
}
