// Command annotationsdoc writes the reference of annotations from the table of keys: the whole page
// (-page docs/annotations.md), and the table alone between the markers of another page
// (-into README.md). It writes only what differs.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "annotationsdoc:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("annotationsdoc", flag.ContinueOnError)
	page := flags.String("page", "", "file to write the reference page to")
	into := flags.String("into", "", "file with the lines "+begin+" and "+end+", between which the table goes")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *page == "" && *into == "" || flags.NArg() > 0 {
		return fmt.Errorf("usage: annotationsdoc [-page FILE] [-into FILE]")
	}
	if *page != "" {
		if err := write(*page, []byte(referencePage())); err != nil {
			return err
		}
	}
	if *into == "" {
		return nil
	}
	before, err := os.ReadFile(*into)
	if err != nil {
		return fmt.Errorf("reading the page that takes the table: %w", err)
	}
	after, err := replaceTable(string(before))
	if err != nil {
		return fmt.Errorf("%s: %w", *into, err)
	}
	return write(*into, []byte(after))
}

// write leaves a file alone that already says the same, for the sake of its time.
func write(file string, content []byte) error {
	if before, err := os.ReadFile(file); err == nil && bytes.Equal(before, content) {
		return nil
	}
	if err := os.WriteFile(file, content, 0o644); err != nil {
		return fmt.Errorf("writing the generated page: %w", err)
	}
	return nil
}
