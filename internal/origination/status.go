package origination

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Labels are the labels that a pod has for what it was admitted with.
func (s Status) Labels() map[string]string {
	labels := map[string]string{}
	if len(s.Originations) > 0 || s.Settings != (Settings{}) {
		labels[LabelInjected] = "true"
	}
	for i := range s.Originations {
		labels[s.Originations[i].RuleLabel()] = "true"
	}
	if s.Server != "" {
		labels[LabelServer] = string(s.Server)
	}
	if s.Sidecar != "" {
		labels[EgressLabel(s.Originations)] = "true"
	}
	return labels
}

// Status is what the redis-tls/status annotation holds, as JSON. It is written at admission and read by
// the controller, which validates it again: pods' owners can edit annotations.
type Status struct {
	// Version is StatusVersion.
	Version string `json:"version"`
	// Originations are sorted by host.
	Originations []Origination `json:"originations"`
	Settings
	// FirstUse is the time of admission, set only when an object was still missing then: the start of
	// the first-use histogram.
	FirstUse *time.Time `json:"firstUse,omitempty"`
}

// String returns the JSON of the annotation. Equal statuses give equal strings.
func (s Status) String() string {
	if s.Originations == nil {
		s.Originations = []Origination{} // a list, as for whoever reads it
	}
	b, err := json.Marshal(s)
	if err != nil { // only types that cannot fail
		panic(err)
	}
	return string(b)
}

// ParseStatus reads the annotation strictly: unknown fields, other versions and trailing data are
// errors. It checks the form, not the claims; see Validate for those.
func ParseStatus(value string) (Status, error) {
	var s Status
	d := json.NewDecoder(bytes.NewReader([]byte(value)))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return Status{}, fmt.Errorf("parsing %s: %w", AnnotationStatus, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Status{}, fmt.Errorf("parsing %s: data after the JSON value", AnnotationStatus)
	}
	if s.Version != StatusVersion {
		return Status{}, fmt.Errorf("parsing %s: version %q, this release reads %q", AnnotationStatus, s.Version, StatusVersion)
	}
	return s, nil
}
