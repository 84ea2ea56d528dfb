package patches

import (
	"cmp"
	"slices"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
)

// patch collects operations. A map or list that is absent is added whole in one operation. So no operation depends on
// another, and they can be applied in the order of their paths.
type patch struct {
	pod         *corev1.Pod
	ops         []jsonpatch.Operation
	annotations map[string]string // to set in one operation, because several features write annotations
	stale       []string          // annotations to remove
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// escape returns the key as a reference token of a JSON pointer (RFC 6901).
func escape(key string) string { return pointerEscapes.Replace(key) }

// annotate sets an annotation.
func (p *patch) annotate(key, value string) {
	if p.annotations == nil {
		p.annotations = map[string]string{}
	}
	p.annotations[key] = value
}

// entries sets keys of the map at path, and removes others, which must exist.
func (p *patch) entries(path string, have, set map[string]string, remove []string) {
	if len(have) == 0 {
		if len(set) > 0 {
			p.add(path, set)
		}
		return
	}
	for key, value := range set {
		switch old, exists := have[key]; {
		case !exists:
			p.add(path+"/"+escape(key), value)
		case old != value:
			p.ops = append(p.ops, jsonpatch.NewOperation("replace", path+"/"+escape(key), value))
		}
	}
	for _, key := range remove {
		p.ops = append(p.ops, jsonpatch.NewOperation("remove", path+"/"+escape(key), nil))
	}
}

// appendTo appends values to the list at path, which has n elements.
func appendTo[T any](p *patch, path string, n int, values []T) {
	if len(values) == 0 {
		return
	}
	if n == 0 {
		p.add(path, values)
		return
	}
	for _, v := range values {
		p.add(path+"/-", v)
	}
}

func (p *patch) add(path string, value any) {
	p.ops = append(p.ops, jsonpatch.NewOperation("add", path, value))
}

// operations returns all operations, sorted by path. Appends to one list keep their order.
func (p *patch) operations() []jsonpatch.Operation {
	p.entries("/metadata/annotations", p.pod.Annotations, p.annotations, p.stale)
	slices.SortStableFunc(p.ops, func(a, b jsonpatch.Operation) int { return cmp.Compare(a.Path, b.Path) })
	return p.ops
}
