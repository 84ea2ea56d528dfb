package catalog

import (
	"os"
	"testing"
)

func TestGoldensAreWrittenAndRead(t *testing.T) {
	t.Chdir(t.TempDir())
	*Update = true
	defer func() { *Update = false }()
	t.Run("write", func(t *testing.T) {
		c := &Catalog{messages: map[string][]string{}}
		c.Add("b", "two\nlines", "one")
		c.Add("a", "first")
		c.Add("none")
		if err := write("messages/Test.txtar", c.sections()); err != nil {
			t.Fatal(err)
		}
	})
	golden, err := os.ReadFile("messages/Test.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if want := "-- a --\nfirst\n-- b --\ntwo\nlines\none\n"; string(golden) != want {
		t.Errorf("golden is %q, want %q", golden, want)
	}
	if got := sections(golden); len(got) != 2 || got["b"] != "two\nlines\none\n" {
		t.Errorf("read again: %q", got)
	}
	if err := write("messages/Test.txtar", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("messages/Test.txtar"); !os.IsNotExist(err) {
		t.Errorf("a golden without messages stays: %v", err)
	}
}
