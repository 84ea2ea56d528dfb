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

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/workload"
	"github.com/redis-tls/redis-tls/internal/inject"
)

// Finding is a problem or a warning about the input.
type Finding struct {
	Severity Severity `json:"severity"`
	// Reason is one word: that of the webhook for a problem that the webhook would report, or one of the constants below.
	Reason string `json:"reason"`
	File   string `json:"file"`
	// Line is that of Path or of its nearest parent, from 1. It is 0 if the file cannot be read.
	Line int `json:"line"`
	// Document is the number of the document in the file, from 1. It is 0 if the document cannot be parsed.
	Document int `json:"document"`
	// Namespace and Object, as in "Deployment/cart", are empty for a document that is no object.
	Namespace string `json:"namespace,omitempty"`
	Object    string `json:"object,omitempty"`
	// Path is the field in the object, as in "spec.template.metadata.annotations[redis-tls/host]". It is empty for the
	// object as a whole. A field of the pod's Namespace begins with "namespace.".
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
}

// Severity says whether a finding prevents the admission.
type Severity string

const (
	Problem Severity = "error"
	Warning Severity = "warning"
)

// The reasons of findings that only the preview has.
const (
	ReasonInvalidManifest  = "InvalidManifest"
	ReasonUnreadKey        = "UnreadKey"
	ReasonNoNamespace      = "NoNamespace"
	ReasonMissingFile      = "MissingFile"
	ReasonAdmissionWarning = "AdmissionWarning"
)

// ReasonInfo explains a reason: a row of docs/preview.md.
type ReasonInfo struct{ Reason, Means string }

// Reasons returns the reasons that only the preview has.
func Reasons() []ReasonInfo {
	return []ReasonInfo{
		{ReasonInvalidManifest, "The file is not valid YAML, or the API server would not accept the object."},
		{ReasonUnreadKey, "An annotation or a label of redis-tls is in a place where no pod gets it."},
		{ReasonNoNamespace, "The input does not describe the namespace, and its labels may change the result."},
		{ReasonMissingFile, "A Secret or ConfigMap with TLS files is not in the input, or does not have the key."},
		{ReasonAdmissionWarning, "The pod is admitted, with a warning of the webhook."},
	}
}

// String returns the finding as a line whose position editors can open.
func (f Finding) String() string {
	at := manifest.Error{File: f.File, Line: f.Line, Err: errors.New(f.Message)}
	if f.Document == 0 {
		return at.Error()
	}
	about := fmt.Sprintf("document %d", f.Document)
	if f.Object != "" {
		about += ", " + f.Object
	}
	at.Err = fmt.Errorf("%s: %w", about, at.Err)
	return at.Error()
}

// ReadErrors returns the errors of manifest.Read as findings.
func ReadErrors(err error) (findings []Finding) {
	switch err := err.(type) {
	case nil:
	case *manifest.Error:
		findings = append(findings, Finding{
			Severity: Problem, Reason: ReasonInvalidManifest, File: err.File, Line: err.Line, Message: err.Err.Error(),
		})
	case interface{ Unwrap() []error }:
		for _, one := range err.Unwrap() {
			findings = append(findings, ReadErrors(one)...)
		}
	default:
		findings = append(findings, Finding{Severity: Problem, Reason: ReasonInvalidManifest, Message: err.Error()})
	}
	return findings
}

// finding returns a finding about an object. The field is one of the pod, whose path in the object is below; or one of
// the object, if below is nil.
func (o object) finding(severity Severity, reason, field string, below []any, message string) Finding {
	f := Finding{
		Severity: severity, Reason: reason, File: o.file.Name, Document: o.document.Index, Namespace: o.namespace,
		Object: o.String(), Path: field, Message: message,
	}
	if o.isNamespace() {
		f.Namespace = ""
	}
	path := slices.Clone(below)
	if !strings.HasPrefix(field, "namespace.") {
		path = append(path, steps(field)...)
		f.Path = fieldOf(path)
	}
	f.Line = o.document.Line(slices.Concat(o.path, path)...)
	return f
}

// problem adds a problem with a field of the pod, or of the object if below is nil.
func (p *preview) problem(o object, below []any, field string, reason string, message string) {
	p.result.Findings = append(p.result.Findings, o.finding(Problem, reason, field, below, message))
}

// warn adds a warning about a field of the object.
func (p *preview) warn(o object, reason string, path []any, detail string) {
	message := detail
	if len(path) > 0 {
		message = fieldOf(path) + ": " + detail
	}
	p.result.Findings = append(p.result.Findings, o.finding(Warning, reason, "", path, message))
}

// warningField is the field at the beginning of a warning of the webhook.
var warningField = regexp.MustCompile(`^((?:namespace\.)?(?:metadata|spec)\S*): `)

// warnings adds the warnings of a decision. If the pod is admitted in spite of problems, they are among the warnings.
func (p *preview) warnings(o object, w workload.Workload, decision inject.Decision) {
	for _, warning := range decision.Warnings {
		reason, field := ReasonAdmissionWarning, ""
		if m := warningField.FindStringSubmatch(warning); m != nil {
			field = m[1]
		}
		for _, problem := range decision.Problems {
			if strings.HasSuffix(warning, problem.Err.Error()) {
				reason, field = string(problem.Reason), problem.Err.Field
			}
		}
		p.result.Findings = append(p.result.Findings, o.finding(Warning, reason, field, w.Template, warning))
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
	var b strings.Builder
	for i, step := range path {
		name, isName := step.(string)
		switch {
		case !isName || strings.ContainsAny(name, "./"):
			fmt.Fprintf(&b, "[%v]", step)
		case i > 0:
			b.WriteString("." + name)
		default:
			b.WriteString(name)
		}
	}
	return b.String()
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
