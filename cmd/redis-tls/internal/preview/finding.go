package preview

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Finding is a problem or a warning about an object of the input.
type Finding struct {
	File     string
	Line     int
	Document int    // number in the file, from 1
	Object   string // "Deployment/cart"
	Message  string
}

// String returns the finding as a line whose position editors can open.
func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: document %d, %s: %s", f.File, f.Line, f.Document, f.Object, f.Message)
}

// finding returns a finding about an object. The line is that of the pod's field. The path of the pod in the object is
// below.
func (o object) finding(message, field string, below []any) Finding {
	path := slices.Concat(o.path, below)
	if strings.HasPrefix(field, "metadata.") || strings.HasPrefix(field, "spec.") {
		path = append(path, steps(field)...)
	}
	return Finding{
		File: o.file.Name, Line: o.document.Line(path...), Document: o.document.Index,
		Object: o.String(), Message: message,
	}
}

var step = regexp.MustCompile(`\[([^\]]*)\]|[^.\[\]]+`)

// steps parses a field path: spec.containers[0].name, metadata.annotations[redis-tls/port].
func steps(field string) []any {
	var path []any
	for _, m := range step.FindAllStringSubmatch(field, -1) {
		switch index, err := strconv.Atoi(m[1]); {
		case m[1] == "":
			path = append(path, m[0])
		case err == nil:
			path = append(path, index)
		default:
			path = append(path, m[1])
		}
	}
	return path
}

// fieldOf returns a path as a field path.
func fieldOf(path []any) string {
	var names []string
	for _, step := range path {
		names = append(names, fmt.Sprint(step))
	}
	return strings.Join(names, ".")
}

// fieldIn returns the field whose type a JSON error reports as wrong.
func fieldIn(err error) string {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return wrong.Field
	}
	return ""
}

// checkMetadata returns an error for each label and annotation that is not a string, such as a port without quotes. The
// API server refuses these as well, but its error has no line.
func checkMetadata(metadata any) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("metadata")
	mapping, ok := metadata.(map[string]any)
	if !ok && metadata != nil {
		return append(errs, field.TypeInvalid(path, metadata, "must be a mapping"))
	}
	for _, name := range []string{"labels", "annotations"} {
		values, ok := mapping[name].(map[string]any)
		if !ok && mapping[name] != nil {
			errs = append(errs, field.TypeInvalid(path.Child(name), mapping[name], "must be a mapping"))
		}
		for _, key := range slices.Sorted(maps.Keys(values)) {
			if _, ok := values[key].(string); !ok {
				errs = append(errs, field.TypeInvalid(path.Child(name).Key(key), values[key], "must be a string; put it in quotes"))
			}
		}
	}
	return errs
}
