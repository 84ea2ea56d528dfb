package adopt

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/preview"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// inputOf reads a case: input.yaml, and the chosen workloads.
func inputOf(t *testing.T, dir string, text []byte) Input {
	t.Helper()
	file, err := manifest.Parse("input.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	chosen, _ := os.ReadFile(filepath.Join(dir, "workloads"))
	return Input{
		Files: []*manifest.File{file}, Namespace: "shop", Config: config.Default(), Workloads: strings.Fields(string(chosen)),
	}
}

// TestAdoptGolden runs each directory of testdata: want.txt is what the user reads, want.yaml the manifests afterwards.
// Whatever the input, the result of two steps (Annotate, then Apply) is that of one. The package admits every changed
// pod, so a second run must find nothing new.
func TestAdoptGolden(t *testing.T) {
	c := catalog.Open(t)
	cases, err := filepath.Glob("testdata/*")
	if err != nil || len(cases) < 12 {
		t.Fatalf("%d cases: %v", len(cases), err)
	}
	for _, dir := range cases {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(dir, "input.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			in := inputOf(t, dir, text)
			plan := find(t, in)
			out := plan.String()
			if got := in.Files[0].Text(); got != string(text) {
				t.Errorf("Find changed the manifests:\n%s", cmp.Diff(string(text), got))
			}
			addSentences(c, filepath.Base(dir), plan)
			if err := plan.Apply(); err != nil {
				t.Fatal(err)
			}
			after := in.Files[0].Text()
			golden(t, filepath.Join(dir, "want.txt"), out)
			golden(t, filepath.Join(dir, "want.yaml"), after)

			steps := inputOf(t, dir, text)
			if err := find(t, steps).Annotate(); err != nil {
				t.Fatal(err)
			}
			steps = inputOf(t, dir, []byte(steps.Files[0].Text()))
			if err := find(t, steps).Apply(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(values(t, after), values(t, steps.Files[0].Text())); diff != "" {
				t.Errorf("-one step +two steps:\n%s", diff)
			}
			again := find(t, inputOf(t, dir, []byte(after)))
			for _, w := range again.Workloads {
				if len(w.Annotations) > 0 {
					t.Errorf("a second run annotates %s again: %v", w.Object, w.Annotations)
				}
			}
			if len(again.Removals) > 0 {
				t.Errorf("a second run removes %v", again.Removals)
			}
			preview := previewOf(t, inputOf(t, dir, []byte(after)))
			for _, w := range plan.Workloads {
				if refusal := preview[w.Object]; refusal != "" {
					t.Errorf("%s is refused: %s", w.Object, refusal)
				}
			}
		})
	}
}

func find(t *testing.T, in Input) *Plan {
	t.Helper()
	plan, err := Find(in)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// previewOf returns the refusals of the input, by object.
func previewOf(t *testing.T, in Input) map[string]string {
	t.Helper()
	result, err := preview.Run(preview.Input{Files: in.Files, Namespace: in.Namespace, Config: in.Config})
	if err != nil {
		t.Fatal(err)
	}
	refusals := map[string]string{}
	for _, f := range result.Findings {
		if f.Severity == preview.Problem {
			refusals[f.Object] = f.Message
		}
	}
	return refusals
}

// addSentences adds the sentences of a plan to the catalog.
func addSentences(c *catalog.Catalog, name string, plan *Plan) {
	for _, w := range plan.Workloads {
		c.Add(name, append(append([]string{}, w.Safer...), w.Check...)...)
	}
	for _, l := range plan.Left {
		c.Add(name, l.Reason)
	}
}

func values(t *testing.T, text string) []string {
	t.Helper()
	file, err := manifest.Parse("", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, d := range file.Documents {
		text, err := json.Marshal(d.Value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(text))
	}
	return all
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *catalog.Update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Error(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%s (-update writes it)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update accepts it):\n%s", path, diff)
	}
}
