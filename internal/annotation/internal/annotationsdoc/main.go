// Command annotationsdoc writes the reference page of annotations from the table of keys to the file
// that it is given, as go generate in annotation does for docs/annotations.md.
package main

import (
	"bytes"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "annotationsdoc:", err)
		os.Exit(1)
	}
}

// run writes the page, unless the file already says the same: its time stays.
func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: annotationsdoc FILE")
	}
	page := []byte(referencePage())
	if before, err := os.ReadFile(args[0]); err == nil && bytes.Equal(before, page) {
		return nil
	}
	if err := os.WriteFile(args[0], page, 0o644); err != nil {
		return fmt.Errorf("writing the reference page: %w", err)
	}
	return nil
}
