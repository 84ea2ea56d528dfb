package preview

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Finding is something to tell about an object of the input.
type Finding struct {
	File     string
	Line     int
	Document int    // its number in the file, from 1
	Object   string // "Deployment/cart"
	Message  string
}

// String returns the finding in a line that editors can follow.
func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: document %d, %s: %s", f.File, f.Line, f.Document, f.Object, f.Message)
}

// finding returns one about an object. The field, of a pod, leads to its line; below is where in the
// object the pod stands.
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
