package annotation

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Limits that apply before anything is parsed, so that no annotations cost the webhook much.
const (
	maxValueBytes       = 8192      // of one annotation's value
	maxAnnotationBytes  = 256 << 10 // of all annotations of a pod: Kubernetes' own limit, which applies after admission
	maxKeys             = 512       // of redis-tls on one pod: more than all keys of all instances
	maxInstances        = 16        // of one pod
	maxPorts            = 256       // of one list
	maxAddresses        = 64        // of one list
	maxNodes            = 128       // of one instance
	maxDialled          = 400       // names in /etc/hosts of one instance: the guard can compare about 900 VIPs
	maxNamePorts        = 1024      // of one instance: each is a listener of every sidecar of the namespace
	maxSubjectAltNames  = 32        // of one list
	maxKeyWarnings      = 16        // about unknown keys of one source
	maxKeyBytesToSearch = 63        // longer names get no suggestion; Kubernetes allows no longer ones
)

// Limit is a row of the table of limits in docs/annotations.md.
type Limit struct {
	What string
	Most int
}

// Limits returns the limits that a user may exceed.
func Limits() []Limit {
	return []Limit{
		{"bytes of one value", maxValueBytes},
		{"bytes of all annotations of a pod (Kubernetes' own limit)", maxAnnotationBytes},
		{"keys of redis-tls on one pod", maxKeys},
		{"Redis instances of one pod", maxInstances},
		{"ports of one list", maxPorts},
		{"elements of `addresses`", maxAddresses},
		{"names of `nodes`", maxNodes},
		{"pairs of a name and a port, with `nodes`", maxNamePorts},
		{"elements of `subject-alt-names`", maxSubjectAltNames},
		{"characters of `host`", origination.MaxHostBytes},
	}
}

// checkSize refuses annotations that are too large to be read.
func checkSize(annotations map[string]string) field.ErrorList {
	size := 0
	for key, value := range annotations {
		size += len(key) + len(value)
	}
	if size <= maxAnnotationBytes {
		return nil
	}
	err := field.TooLong(podPath, "", maxAnnotationBytes)
	err.Detail = fmt.Sprintf("keys and values must have at most %d bytes together, the limit of Kubernetes, got %d",
		maxAnnotationBytes, size)
	return field.ErrorList{err}
}

// shortenKey cuts keys that the API server would refuse: admission comes before validation.
func shortenKey(key string) string { return origination.Cut(key, 253+1+63) }
