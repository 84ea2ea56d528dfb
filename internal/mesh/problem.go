package mesh

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// keyPath returns the path of one of the origination's keys, of its first instance.
func keyPath(o *origination.Origination, name string) *field.Path {
	return field.NewPath("metadata", "annotations").Key(origination.KeyOf(instanceOf(o), name))
}

// instanceOf returns the first instance of the origination.
func instanceOf(o *origination.Origination) string {
	if len(o.Instances) > 0 {
		return o.Instances[0]
	}
	return origination.DefaultInstance
}

// conflict returns the problem of an origination that conflicts with that of another pod.
func conflict(o *origination.Origination, key, value, detail string) *origination.Problem {
	return &origination.Problem{Reason: origination.ReasonConflict, Err: field.Invalid(keyPath(o, key), value, detail)}
}

// unmanagedObject returns the problem of an origination that conflicts with an unmanaged mesh object.
func unmanagedObject(o *origination.Origination, key, value, detail string) origination.Problem {
	return origination.Problem{
		Reason: origination.ReasonUnmanagedObject,
		Err:    field.Invalid(keyPath(o, key), value, detail),
	}
}
