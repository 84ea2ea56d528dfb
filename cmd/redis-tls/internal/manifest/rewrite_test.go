package manifest

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRewriteChangesOnlyTheLinesThatDiffer(t *testing.T) {
	tests := []struct {
		name  string
		text  string
		patch func(v map[string]any)
		want  string
	}{
		{
			"a key at the end of a mapping in the middle",
			"# head\na:\n  b: x # why\n\n  # about c\n  c: y\n\n# about d\nd: z\n",
			func(v map[string]any) { v["a"].(map[string]any)["k"] = "new" },
			"# head\na:\n  b: x # why\n\n  # about c\n  c: y\n  k: new\n\n# about d\nd: z\n",
		},
		{
			"after a comment that is indented as the mapping is",
			"a:\n  b: x\n  # c: y\nd: z\n",
			func(v map[string]any) { v["a"].(map[string]any)["k"] = "new" },
			"a:\n  b: x\n  # c: y\n  k: new\nd: z\n",
		},
		{
			"after a block scalar with a line like a comment",
			"a:\n  b: |\n    x\n    # no comment\n\nd: z\n",
			func(v map[string]any) { v["a"].(map[string]any)["k"] = "two\nlines\n" },
			"a:\n  b: |\n    x\n    # no comment\n  k: |\n    two\n    lines\n\nd: z\n",
		},
		{
			"a value, its comment kept",
			"a:\n  # above\n  b: x # inline\n  c: y\n",
			func(v map[string]any) { v["a"].(map[string]any)["b"] = "true" },
			"a:\n  # above\n  b: \"true\" # inline\n  c: y\n",
		},
		{
			"JSON in a string is readable",
			"a:\n  b: x\n",
			func(v map[string]any) { v["a"].(map[string]any)["k"] = `{"x":1}` },
			"a:\n  b: x\n  k: '{\"x\":1}'\n",
		},
		{
			"a mapping where there was none",
			"a:\n  b: {}\n  c: y\n",
			func(v map[string]any) { v["a"].(map[string]any)["b"] = map[string]any{"k": json.Number("1")} },
			"a:\n  b:\n    k: 1\n  c: y\n",
		},
		{
			"a deleted key",
			"a:\n  b: x\n  # about c\n  c:\n  - y\n\n  d: z\n",
			func(v map[string]any) { delete(v["a"].(map[string]any), "c") },
			"a:\n  b: x\n  # about c\n\n  d: z\n",
		},
		{
			"the first key of a mapping",
			"a:\n  # about b\n  b: x\n  c: y # why\n",
			func(v map[string]any) { delete(v["a"].(map[string]any), "b") },
			"a:\n  # about b\n  c: y # why\n",
		},
		{
			"the first key after a dash",
			"a:\n- b: x # old\n  c: y # why\n",
			func(v map[string]any) { delete(v["a"].([]any)[0].(map[string]any), "b") },
			"a:\n- c: y # why\n",
		},
		{
			"a deleted item of a sequence",
			"a:\n  # first\n  - b: x\n    c: y\n  # second\n  - d\n  - e # third\n\nf: g\n",
			func(v map[string]any) { v["a"] = []any{v["a"].([]any)[0], v["a"].([]any)[2]} },
			"a:\n  # first\n  - b: x\n    c: y\n  # second\n  - e # third\n\nf: g\n",
		},
		{
			"the last item of a sequence",
			"a:\n- b\n- c # old\nd: e\n",
			func(v map[string]any) { v["a"] = v["a"].([]any)[:1] },
			"a:\n- b\nd: e\n",
		},
		{
			"items appended to an unindented sequence",
			"a:\n- b: x\n  c: y\n# about d\nd: z\n",
			func(v map[string]any) { v["a"] = append(v["a"].([]any), map[string]any{"e": "1", "f": []any{"g"}}) },
			"a:\n- b: x\n  c: y\n- e: \"1\"\n  f:\n  - g\n# about d\nd: z\n",
		},
		{
			"items appended to an indented sequence",
			"a:\n  - b: x\n\nd: z\n",
			func(v map[string]any) { v["a"] = append(v["a"].([]any), map[string]any{"f": []any{"g"}}) },
			"a:\n  - b: x\n  - f:\n    - g\n\nd: z\n",
		},
		{
			"a key inside an item",
			"a:\n- b: x\n  c:\n  - y\n- b: x\n",
			func(v map[string]any) { v["a"].([]any)[0].(map[string]any)["k"] = "new" },
			"a:\n- b: x\n  c:\n  - y\n  k: new\n- b: x\n",
		},
		{
			"the first key of an item",
			"a:\n- b: x # why\n  c: y\n",
			func(v map[string]any) { v["a"].([]any)[0].(map[string]any)["b"] = []any{"k"} },
			"a:\n- b: # why\n  - k\n  c: y\n",
		},
		{
			"flow style below block style, in the order it had",
			"a: # why\n  z: {d: x, b: 'y'}\n\nc: [1]\n",
			func(v map[string]any) { v["a"].(map[string]any)["z"].(map[string]any)["k"] = "new" },
			"a: # why\n  z:\n    d: x\n    b: 'y'\n    k: new\n\nc: [1]\n",
		},
		{
			"no line end at the end",
			"a:\n  b: x",
			func(v map[string]any) { v["a"].(map[string]any)["k"] = "new" },
			"a:\n  b: x\n  k: new\n",
		},
		{
			"carriage returns",
			"a:\r\n  b: x\r\nc: y\r\n",
			func(v map[string]any) { v["a"].(map[string]any)["k"] = "new" },
			"a:\r\n  b: x\r\n  k: new\r\nc: y\r\n",
		},
		{
			"an alias stays an alias, its anchor an anchor",
			"a: &x\n  b: x\nc: *x\nd:\n  e: f\n",
			func(v map[string]any) { v["d"].(map[string]any)["k"] = "new" },
			"a: &x\n  b: x\nc: *x\nd:\n  e: f\n  k: new\n",
		},
		{
			"an alias that changes is written out",
			"a: &x\n  b: x\nc: *x\n",
			func(v map[string]any) { v["c"] = map[string]any{"b": "x", "k": "new"} },
			"a: &x\n  b: x\nc:\n  b: x\n  k: new\n",
		},
		{
			"a merge key is written out",
			"a: &x\n  b: x\nc:\n  <<: *x\n  d: z\n",
			func(v map[string]any) { v["c"].(map[string]any)["k"] = "new" },
			"a: &x\n  b: x\nc:\n  d: z\n  b: x\n  k: new\n",
		},
		{
			"JSON becomes YAML",
			"{\"a\": {\"b\": \"yes\", \"c\": 1, \"d\": \"x\"}}\n",
			func(v map[string]any) { v["a"].(map[string]any)["k"] = "on" },
			"a:\n  b: \"yes\"\n  c: 1\n  d: x\n  k: \"on\"\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file, err := Parse("f.yaml", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			d := file.Documents[0]
			want := clone(t, d.Value).(map[string]any)
			tt.patch(want)
			if err := d.Rewrite(want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, file.Text()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(any(want), d.Value); diff != "" {
				t.Errorf("the document's value differs: %s", diff)
			}
		})
	}
}

func TestRewriteKeepsOtherDocuments(t *testing.T) {
	const text = "# licence\n---\na: x # one\n---  # two\n\na: w\n---\n# three\n"
	file, err := Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Documents[2].Rewrite(map[string]any{"a": "z", "b": "x"}); err != nil {
		t.Fatal(err)
	}
	want := "# licence\n---\na: x # one\n---  # two\n\na: z\nb: x\n---\n# three\n"
	if diff := cmp.Diff(want, file.Text()); diff != "" {
		t.Error(diff)
	}
}

func TestLineFindsTheNearestNode(t *testing.T) {
	file, err := Parse("f.yaml", []byte("x: y\n---\n# why\na:\n  b:\n  - c: d\n  - e: f\n"))
	if err != nil {
		t.Fatal(err)
	}
	for want, path := range map[int][]any{4: {}, 5: {"a", "b"}, 7: {"a", "b", 1, "e"}, 6: {"a", "b", 0, "gone", "far"}} {
		if got := file.Documents[1].Line(path...); got != want {
			t.Errorf("line of %v: %d, want %d", path, got, want)
		}
	}
}

// FuzzRewrite proves that a rewrite has the requested value, or fails and leaves the document unchanged.
func FuzzRewrite(f *testing.F) {
	f.Add("a:\n- b: x\n  c: |+\n    y\n\n\nd: [e, {f: g}]\n", `{"a":[{"b":"x","c":"z","n":1},"y"],"d":["e"]}`)
	f.Add("a: &x {b: c}\nd: *x\ne: {<<: *x}\n", `{"a":{"b":"n"},"d":{"b":"c"},"e":{}}`)
	f.Add("? a\n: 'x\n\n  y'\nb: \"p\\\n q\"\n", `{"a":"x\ny","b":"#","c":" y"}`)
	f.Add("1: a\ntrue: b\nnull: c\n", `{"1":"b","true":"a"}`)
	f.Add("- a\n-   - b\n    - c\n", `["a",["b","c","d"],[]]`)
	f.Fuzz(func(t *testing.T, text, asJSON string) {
		want, err := DecodeJSON([]byte(asJSON))
		if err != nil || want == nil {
			t.Skip()
		}
		file, err := Parse("f.yaml", []byte(text))
		if err != nil || file.Documents[0].Value == nil {
			t.Skip()
		}
		before := file.Text()
		d := file.Documents[0]
		if err := d.Rewrite(want); err != nil {
			if file.Text() != before {
				t.Errorf("failed, but changed the text: %q", file.Text())
			}
			return
		}
		again, err := Parse("again", []byte(file.Text()))
		if err != nil {
			t.Fatalf("%s in %q", err, file.Text())
		}
		if len(again.Documents) != len(file.Documents) || !reflect.DeepEqual(again.Documents[0].Value, want) {
			t.Errorf("%q reads as %v, want %v", file.Text(), again.Documents[0].Value, want)
		}
		if strings.Contains(before, "---") {
			return
		}
		if err := d.Rewrite(d.Value); err != nil || file.Text() != again.Text() {
			t.Errorf("rewriting to the same value: %v, %q", err, file.Text())
		}
	})
}

func clone(t *testing.T, value any) any {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := DecodeJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	return copied
}

func TestRemoveKeepsOtherDocuments(t *testing.T) {
	const text = "# one\na: 1\n---\n# two\nb: 2\n--- # three\nc: 3\n"
	for i, want := range []string{
		"# two\nb: 2\n--- # three\nc: 3\n",
		"# one\na: 1\n--- # three\nc: 3\n",
		"# one\na: 1\n---\n# two\nb: 2\n",
	} {
		file, err := Parse("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		file.Remove(file.Documents[i])
		if got := file.Text(); got != want {
			t.Errorf("without document %d: %q, want %q", i, got, want)
		}
	}
}
