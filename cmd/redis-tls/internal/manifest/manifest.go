// Package manifest reads files of Kubernetes manifests and rewrites single documents of them in place.
//
// [Read] and [Parse] return documents with their values and their lines. [Document.Rewrite] changes only the lines that
// differ: comments, blank lines and the order of keys stay. [File.Text] returns the result. The package is independent
// of kinds, annotations and clusters, and must not import a package that is not.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	kyaml "sigs.k8s.io/yaml"
)

// Stdin is the file name that stands for the standard input.
const Stdin = "-"

// File is an input. Its documents cover the whole text.
type File struct {
	Name      string
	Documents []*Document
}

// Document is a document of a file. A document of only comments has a nil Value.
type Document struct {
	// Index is the number of the document among those with a value, from 1.
	Index int
	// Value is the value as the Kubernetes API reads it: YAML 1.1, with numbers as json.Number.
	Value any

	head string     // the separator line, if any
	body string     // the text
	line int        // number of lines before body
	node *yaml.Node // the root node of body, with lines relative to body
}

// Error is an error in the text of a file.
type Error struct {
	File string
	Line int // from 1; 0 when unknown
	Err  error
}

// Error returns "file:line: error".
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Read reads a file, the *.yaml, *.yml and *.json files of a directory, or the standard input. Like kubectl it ignores
// subdirectories. It returns the readable files together with the joined errors of the others.
func Read(name string, stdin io.Reader) ([]*File, error) {
	names := []string{name}
	if info, err := os.Stat(name); name != Stdin && err == nil && info.IsDir() {
		if names, err = manifestsIn(name); err != nil {
			return nil, err
		}
	}
	var files []*File
	var errs []error
	for _, name := range names {
		var text []byte
		var err error
		if name == Stdin {
			name = "stdin"
			text, err = io.ReadAll(stdin)
		} else {
			text, err = os.ReadFile(name)
		}
		if err != nil {
			errs = append(errs, &Error{File: name, Err: reason(err)})
			continue
		}
		file, err := Parse(name, text)
		files = append(files, file)
		errs = append(errs, err)
	}
	return files, errors.Join(errs...)
}

// reason returns an error of the file system without the file's name, which Error adds.
func reason(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

func manifestsIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, &Error{File: dir, Err: reason(err)}
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	if len(names) == 0 {
		return nil, &Error{File: dir, Err: errors.New("the directory must contain a *.yaml, *.yml or *.json file")}
	}
	return names, nil
}

// Parse splits a file's text into documents and decodes them. It returns the documents that can be decoded, together
// with an *Error for each of the others.
func Parse(name string, text []byte) (*File, error) {
	file := &File{Name: name}
	documents, err := split(string(text))
	if err != nil {
		err.File = name
		return file, err
	}
	var errs []error
	index := 0
	for _, d := range documents {
		if err := d.decode(); err != nil {
			errs = append(errs, locate(name, d.line, err))
			index++
			continue
		}
		if d.Value != nil {
			index++
			d.Index = index
		}
		file.Documents = append(file.Documents, d)
	}
	return file, errors.Join(errs...)
}

// Remove removes a document with its separator. Comments of the other documents stay.
func (f *File) Remove(document *Document) {
	i := slices.Index(f.Documents, document)
	if i < 0 {
		return
	}
	f.Documents = slices.Delete(f.Documents, i, i+1)
	if i == 0 && len(f.Documents) > 0 && document.head == "" { // the file did not begin with a separator
		f.Documents[0].head = ""
	}
}

// decode fills Value and node from the body.
func (d *Document) decode() error {
	value, err := decode(d.body)
	if err != nil {
		return err
	}
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(d.body), &root); err != nil {
		return err
	}
	if d.Value = value; value != nil {
		d.node = root.Content[0]
	}
	return nil
}

// decode reads YAML as kubectl does, but refuses duplicate keys.
func decode(text string) (any, error) {
	asJSON, err := kyaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return nil, err
	}
	return DecodeJSON(asJSON)
}

// DecodeJSON decodes one JSON value, with numbers as json.Number.
func DecodeJSON(text []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	err := decoder.Decode(&value)
	return value, err
}

var errorLine = regexp.MustCompile(`line (\d+): `)

// locate turns an error of the YAML library, whose line is relative to the document, into an Error.
func locate(file string, before int, err error) error {
	text := strings.TrimPrefix(err.Error(), "error converting YAML to JSON: ")
	text = strings.TrimPrefix(text, "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:\n  ")
	line := 0
	if m := errorLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		line += before
		text = strings.Replace(text, m[0], "", 1)
	}
	return &Error{File: file, Line: line, Err: errors.New(text)}
}
