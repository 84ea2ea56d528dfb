// Command valuesdoc generates values.yaml and the table in README.md from a chart's values.schema.json. They have the
// order of the schema, with each value's description and default.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

//go:generate go run . ../redis-tls

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "valuesdoc:", err)
		os.Exit(1)
	}
}

// block is the generated part of README.md.
var block = regexp.MustCompile(`(?s)(<!-- table of values -->\n).*?(<!-- end -->)`)

// run writes the files of the chart in the given directory.
func run(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: valuesdoc DIRECTORY")
	}
	files, err := generate(args[0])
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := write(filepath.Join(args[0], name), content); err != nil {
			return err
		}
	}
	return nil
}

// generate returns the files by name, generated from the schema in the directory.
func generate(dir string) (map[string][]byte, error) {
	schema, err := os.ReadFile(filepath.Join(dir, "values.schema.json"))
	if err != nil {
		return nil, err
	}
	root, err := parse(schema)
	if err != nil {
		return nil, fmt.Errorf("reading values.schema.json: %w", err)
	}
	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		return nil, err
	}
	if len(block.FindAll(readme, -1)) != 1 {
		return nil, errors.New("README.md must have one part from <!-- table of values --> to <!-- end -->")
	}
	values, err := valuesYAML(root)
	if err != nil {
		return nil, err
	}
	table, err := table(root)
	if err != nil {
		return nil, err
	}
	readme = block.ReplaceAllFunc(readme, func(old []byte) []byte {
		return bytes.Join(append(block.FindSubmatch(old)[1:2], table, block.FindSubmatch(old)[2]), nil)
	})
	return map[string][]byte{"values.yaml": values, "README.md": readme}, nil
}

// write writes the file, unless its content is the same. Then its modification time stays.
func write(file string, content []byte) error {
	if before, err := os.ReadFile(file); err == nil && bytes.Equal(before, content) {
		return nil
	}
	return os.WriteFile(file, content, 0o644)
}
