package patches

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/origination"
)

// userAnnotations merges the bundles into the annotations from which Istio's injection template makes
// istio-proxy's volumes and mounts: JSON, a list of objects with a name or a map from name to object
// (the template ranges over either). The user's text is never parsed and written again: ours is
// inserted into it, so that every entry stays as it is, unknown fields, numbers and duplicates too.
func (p *patch) userAnnotations(pod *corev1.Pod, bs []bundle) (problems []origination.Problem) {
	if len(bs) == 0 {
		return nil
	}
	for _, annotation := range []struct {
		key   string
		judge func(entry, bundle) verdict
		named func(bundle) any
		plain func(bundle) any
	}{
		{istioUserVolume, judgeVolume, namedVolume, plainVolume},
		{istioUserMount, judgeMount, namedMount, plainMount},
	} {
		at := annotationsPath.Key(annotation.key)
		old, exists := pod.Annotations[annotation.key]
		doc, err := parseUserJSON(old)
		if err != nil {
			problems = append(problems, invalid(origination.ReasonInvalidAnnotation, at, old, err.Error()))
			continue
		}
		ours := annotation.plain
		if doc.list {
			ours = annotation.named
		}
		var texts []string
		for _, b := range bs {
			present, conflicts := doc.look(at, b, annotation.judge)
			problems = append(problems, conflicts...)
			if !present {
				texts = append(texts, doc.text(b, ours(b)))
			}
		}
		if merged := doc.insert(texts); !exists || merged != old {
			p.annotate(pod.Annotations, annotation.key, merged)
		}
	}
	return problems
}

// userJSON is an annotation's value.
type userJSON struct {
	value   string
	list    bool
	entries []entry
}

// entry is one volume or mount of the user's.
type entry struct {
	label string   // "[2]" or its key, for messages
	names []string // what Istio may take its name from: key or index, and the field
	raw   json.RawMessage
}

// errForm says what is right where JSON is wrong.
const errForm = `it must be a JSON list of objects with a name, or a JSON map from name to object`

// parseUserJSON reads a value as Istio's fromJSON does (encoding/json into any; template.go): what
// fails there is an error, with its position. The map form is the default of an absent value.
func parseUserJSON(value string) (userJSON, error) {
	if trimmed := strings.Trim(value, jsonSpace); trimmed == "" || trimmed == "null" {
		return userJSON{value: "{}"}, nil // Istio iterates over nothing
	}
	var parsed any
	if err := json.Unmarshal([]byte(value), &parsed); err != nil {
		return userJSON{}, fmt.Errorf("is not JSON at %s: %w; %s", position(value, err), err, errForm)
	}
	doc := userJSON{value: value}
	switch parsed.(type) {
	case []any:
		doc.list = true
	case map[string]any:
	default:
		return userJSON{}, errors.New("is JSON, but neither a list nor a map; " + errForm)
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
		e.names = append(e.names, e.strings("name")...)
		doc.entries = append(doc.entries, e)
	}
	return nil
}

// strings returns the string values of a field in every spelling of its case: on the way through Istio
// the entry is decoded by encoding/json, which is not case-sensitive (`readonly` works).
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

// position says where in the text the JSON error is, counted from one.
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

// verdict is what an entry is to a bundle of ours.
type verdict int

const (
	foreign verdict = iota
	ours
	sameName
	samePath
)

// look finds the bundle among the entries, and what of them is in its way.
func (doc *userJSON) look(at *field.Path, b bundle, judge func(entry, bundle) verdict) (present bool, problems []origination.Problem) {
	for _, e := range doc.entries {
		switch judge(e, b) {
		case ours:
			present = true
		case sameName:
			p := otherContent(at, string(e.raw), b)
			p.Err.Detail = "entry " + e.label + " " + p.Err.Detail
			problems = append(problems, p)
		case samePath:
			p := overlapping(at, string(e.raw), b)
			p.Err.Detail = "entry " + e.label + " " + p.Err.Detail
			problems = append(problems, p)
		}
	}
	return present, problems
}

func judgeVolume(e entry, b bundle) verdict {
	if !e.named(b.volume.Name) {
		return foreign
	}
	var v corev1.Volume
	if e.decode(&v) && sameVolume(withName(v, b), b.volume) {
		return ours
	}
	return sameName
}

func judgeMount(e entry, b bundle) verdict {
	var m corev1.VolumeMount
	if named := e.named(b.mount.Name); named && e.decode(&m) {
		m.Name = b.mount.Name
		if sameMount(m, b.mount) {
			return ours
		}
		return sameName
	} else if named {
		return sameName
	}
	for _, mountPath := range e.strings("mountPath") {
		if overlap(mountPath, b.mount.MountPath) {
			return samePath
		}
	}
	return foreign
}

func withName(v corev1.Volume, b bundle) corev1.Volume {
	v.Name = b.volume.Name
	return v
}

// named reports whether Istio may give the entry this name.
func (e entry) named(name string) bool {
	for _, n := range e.names {
		if n == name {
			return true
		}
	}
	return false
}

// decode reads the entry; a field that the type does not know makes it something else than ours.
func (e entry) decode(into any) bool {
	d := json.NewDecoder(bytes.NewReader(e.raw))
	d.DisallowUnknownFields()
	return d.Decode(into) == nil
}

// The entries that we write, spelled out: marshalled API types would add fields.
type annotationVolume struct {
	Name   string                     `json:"name,omitempty"`
	Secret *corev1.SecretVolumeSource `json:"secret"`
}

type annotationMount struct {
	Name      string `json:"name,omitempty"`
	MountPath string `json:"mountPath"`
	ReadOnly  bool   `json:"readOnly"`
}

func plainVolume(b bundle) any { return annotationVolume{Secret: b.volume.Secret} }
func namedVolume(b bundle) any { return annotationVolume{b.volume.Name, b.volume.Secret} }
func plainMount(b bundle) any  { return annotationMount{"", b.mount.MountPath, b.mount.ReadOnly} }
func namedMount(b bundle) any {
	return annotationMount{b.mount.Name, b.mount.MountPath, b.mount.ReadOnly}
}

// text returns our entry as it stands in the document.
func (doc *userJSON) text(b bundle, value any) string {
	text, err := json.Marshal(value)
	if err != nil { // only types that cannot fail
		panic(err)
	}
	if doc.list {
		return string(text)
	}
	return fmt.Sprintf("%q:%s", b.volume.Name, text)
}

// jsonSpace is the white space of JSON (RFC 8259).
const jsonSpace = " \t\r\n"

// insert returns the document with the texts as its last entries. All else stays, byte for byte.
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
