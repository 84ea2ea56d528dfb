package origination

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
)

// StatusVersion is the version of the format of the status annotation.
const StatusVersion = "v1"

// Status is the content of the redis-tls/status annotation, as JSON: the pod's request, not its result. The webhook
// writes it at admission. The controller resolves it again with the same code, because owners of pods can write
// annotations.
type Status struct {
	// Version is StatusVersion.
	Version string `json:"version"`
	// Request has the keys in effect with their values: those of the pod, its namespace and the Helm values, by
	// precedence.
	Request map[string]string `json:"request"`
	// Secrets are the names at admission of the Secrets of the cert-manager Certificates that the request names.
	Secrets map[string]string `json:"secrets,omitempty"`
}

// String returns the JSON of the annotation. Equal statuses give equal strings.
func (s Status) String() string {
	b, err := json.Marshal(s)
	if err != nil { // only types that cannot fail
		panic(err)
	}
	return string(b)
}

// ParseStatus reads the annotation strictly: unknown fields, other versions and trailing data are errors.
func ParseStatus(value string) (Status, error) {
	var s Status
	d := json.NewDecoder(bytes.NewReader([]byte(value)))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return Status{}, fmt.Errorf("parsing %s: %w", AnnotationStatus, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Status{}, fmt.Errorf("parsing %s: must not have data after the JSON value", AnnotationStatus)
	}
	if s.Version != StatusVersion {
		return Status{}, fmt.Errorf("parsing %s: version must be %q, got %q", AnnotationStatus, StatusVersion, s.Version)
	}
	return s, nil
}

// FormatVIPs returns the value of the redis-tls/vips annotation: name=address for each VIP of each name that the pod's
// /etc/hosts must have, joined by commas; empty if no host is pinned.
func FormatVIPs(originations []Origination) string {
	var b strings.Builder
	for i := range originations {
		for _, name := range originations[i].Names() {
			for _, dialled := range name.Dialled() {
				for _, vip := range name.VIPs {
					if b.Len() > 0 {
						b.WriteByte(',')
					}
					b.WriteString(dialled + "=" + vip.String())
				}
			}
		}
	}
	return b.String()
}

// ParseVIPs reads the annotation strictly, as FormatVIPs writes it: the VIPs of each host, in their order.
func ParseVIPs(value string) (map[string][]netip.Addr, error) {
	vips := map[string][]netip.Addr{}
	if value == "" {
		return vips, nil
	}
	for element := range strings.SplitSeq(value, ",") {
		host, text, found := strings.Cut(element, "=")
		vip, err := netip.ParseAddr(text)
		if !found || host == "" || err != nil || vip.Unmap().WithZone("").String() != text ||
			slices.Contains(vips[host], vip) {
			return nil, fmt.Errorf("parsing %s: %q must be host=address", AnnotationVIPs, Shorten(element))
		}
		vips[host] = append(vips[host], vip)
	}
	return vips, nil
}

// WebhookAnnotations are the annotations of a pod that only the webhook writes.
var WebhookAnnotations = []string{AnnotationFirstUse, AnnotationStatus, AnnotationVIPs}
