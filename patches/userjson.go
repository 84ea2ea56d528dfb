package patches

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// userJSON is an annotation's value.
type userJSON struct {
	value   string
	list    bool
	entries []entry
}

// entry is one volume or mount that a user wrote.
type entry struct {
	label string   // "[2]" or its key, for messages
	names []string // what Istio may take its name from: key or index, and the field
	raw   json.RawMessage
	end   int64 // the offset of the end of raw
}

// formFix is the fix for JSON that Istio cannot read.
const formFix = "Write a JSON list of objects with a name, or a JSON map from name to object"

// parseUserJSON reads a value as Istio's fromJSON does (encoding/json into any; template.go). An error has its
// position. The map form is the default of an absent value.
func parseUserJSON(value string) (userJSON, error) {
	if trimmed := strings.Trim(value, jsonSpace); trimmed == "" || trimmed == "null" {
		return userJSON{value: "{}"}, nil // Istio iterates over nothing
	}
	var parsed any
	if err := json.Unmarshal([]byte(value), &parsed); err != nil {
		return userJSON{}, fmt.Errorf("must be JSON: %s: %w. %s", position(value, err), err, formFix)
	}
	doc := userJSON{value: value}
	switch parsed.(type) {
	case []any:
		doc.list = true
	case map[string]any:
	default:
		return userJSON{}, errors.New("must be a list or a map. " + formFix)
	}
	return doc, doc.read()
}

// read lists the entries, those under duplicate keys too.
func (doc *userJSON) read() error {
	d := json.NewDecoder(strings.NewReader(doc.value))
	if _, err := d.Token(); err != nil {
		return err
	}
	for i := 0; d.More(); i++ {
		e := entry{label: fmt.Sprintf("[%d]", i), names: []string{fmt.Sprint(i)}}
		if !doc.list {
			key, err := d.Token()
			if err != nil {
				return err
			}
			e.label, e.names = fmt.Sprintf("%q", key), []string{key.(string)}
		}
		if err := d.Decode(&e.raw); err != nil {
			return err
		}
		e.end = d.InputOffset()
		e.names = append(e.names, e.strings("name")...)
		doc.entries = append(doc.entries, e)
	}
	return nil
}

// strings returns the string values of a field in any case: Istio decodes the entry by encoding/json, which is not
// case-sensitive (`readonly` works).
func (e entry) strings(name string) []string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(e.raw, &fields) != nil {
		return nil
	}
	var values []string
	for key, raw := range fields {
		var s string
		if strings.EqualFold(key, name) && json.Unmarshal(raw, &s) == nil {
			values = append(values, s)
		}
	}
	return values
}

// position returns the position of the JSON error in the text, counted from one.
func position(text string, err error) string {
	offset := int64(len(text))
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
	}
	before := text[:max(0, offset-1)] // the offset is that after the offending byte
	line := strings.Count(before, "\n") + 1
	column := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
	return fmt.Sprintf("line %d, column %d (offset %d)", line, column, offset)
}

// named reports whether Istio may give the entry this name.
func (e entry) named(name string) bool {
	return slices.Contains(e.names, name)
}

// decode reads the entry. An unknown field is an error, because the webhook writes none.
func (e entry) decode(into any) bool {
	d := json.NewDecoder(bytes.NewReader(e.raw))
	d.DisallowUnknownFields()
	return d.Decode(into) == nil
}

// text returns the bundle's entry in the form of the document.
func (doc *userJSON) text(b bundle, value any) string {
	text, err := json.Marshal(value)
	if err != nil { // only types that cannot fail
		panic(err)
	}
	if doc.list {
		return string(text)
	}
	return `"` + b.volume.Name + `":` + string(text) // a DNS label needs no escapes
}

// jsonSpace is the white space of JSON (RFC 8259).
const jsonSpace = " \t\r\n"

// insert returns the document with the texts as its last entries. Everything else stays, byte for byte.
func (doc *userJSON) insert(texts []string) string {
	if len(texts) == 0 {
		return doc.value
	}
	end := strings.TrimRight(doc.value, jsonSpace)
	last := len(end) - 1 // the closing bracket
	body := strings.TrimRight(end[:last], jsonSpace)
	separator := ","
	if len(doc.entries) == 0 {
		separator = ""
	}
	return body + separator + strings.Join(texts, ",") + doc.value[len(body):]
}
