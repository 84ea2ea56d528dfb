// Package catalog keeps the sentences that users read in goldens.
//
// A test opens its [Catalog] and adds what each of its cases produces. Its golden is messages/<test>.txtar of
// the test's package, a section for each case, a line for each message. Other tests assert the reason and the path of
// a message, so a sentence is improved in one place:
//
//	go test ./internal/annotation -update
package catalog

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// Update is the flag -update: write goldens instead of comparing with them.
var Update = flag.Bool("update", false, "write the golden files")

// Catalog is the golden of one test. It may be used by parallel subtests.
type Catalog struct {
	mu       sync.Mutex
	messages map[string][]string
}

// Open returns the catalog of the test, which is compared with its golden when the test ends. A run that leaves
// cases out (-run Test/case) is compared case by case.
func Open(t *testing.T) *Catalog {
	t.Helper()
	c := &Catalog{messages: map[string][]string{}}
	path := filepath.Join("messages", t.Name()+".txtar")
	whole := !strings.Contains(flag.Lookup("test.run").Value.String(), "/")
	t.Cleanup(func() {
		if t.Skipped() {
			return
		}
		golden, err := os.ReadFile(path)
		want := sections(golden)
		got := c.sections()
		if err != nil && !*Update && len(got) > 0 {
			t.Errorf("%v; go test -update writes it", err)
			return
		}
		if !whole {
			for name, text := range want {
				if _, ran := got[name]; !ran {
					got[name] = text
				}
			}
		}
		if *Update {
			if err := write(path, got); err != nil {
				t.Error(err)
			}
			return
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("messages differ from %s; go test -update accepts them (-want +got):\n%s", path, diff)
		}
	})
	return c
}

// Add adds what a case produced. A case without messages has no section.
func (c *Catalog) Add(name string, messages ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.messages[name] = append(c.messages[name], messages...)
}

func (c *Catalog) sections() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	texts := map[string]string{}
	for name, messages := range c.messages {
		if len(messages) > 0 {
			texts[name] = strings.Join(messages, "\n") + "\n"
		}
	}
	return texts
}

// sections reads a golden: its texts by the names of cases.
func sections(golden []byte) map[string]string {
	texts := map[string]string{}
	for _, file := range txtar.Parse(golden).Files {
		texts[file.Name] = string(file.Data)
	}
	return texts
}

func write(path string, texts map[string]string) error {
	if len(texts) == 0 {
		return os.RemoveAll(path)
	}
	var archive txtar.Archive
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		archive.Files = append(archive.Files, txtar.File{Name: name, Data: []byte(texts[name])})
	}
	golden := txtar.Format(&archive)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, golden) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, golden, 0o644)
}
