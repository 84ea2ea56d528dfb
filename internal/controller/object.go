package controller

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/mesh"
)

// object is a mesh object of one of the kinds.
type object struct {
	client.Object
	*kind
	host string // as the mesh knows it, which ties what belongs to an entry to it
	spec any    // a pointer to it
}

func (o object) reference() *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: o.GroupVersion().String(), Kind: o.Kind,
		Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(),
	}
}

// differs reports whether the object in the cluster is not as it should be. Labels and annotations that
// others have added are theirs to keep; the mark is ours.
func (o object) differs(have object) bool {
	return !sameSpec(o.spec, have.spec) || !o.covered(have) || o.mark() != have.mark()
}

func (o object) covered(have object) bool {
	return contains(have.GetLabels(), o.GetLabels()) && contains(have.GetAnnotations(), o.GetAnnotations())
}

// mark is when the object was marked for deletion, as written; empty when it is not marked.
func (o object) mark() string { return o.GetAnnotations()[mesh.AnnotationDeleting] }

// marked returns a copy with that mark; empty takes it off.
func (o object) marked(mark string) object {
	marked := o.clone()
	annotations := maps.Clone(o.GetAnnotations())
	if annotations == nil {
		annotations = map[string]string{}
	}
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	delete(annotations, mesh.AnnotationDeleting)
	if mark != "" {
		annotations[mesh.AnnotationDeleting] = mark
	}
	marked.SetAnnotations(annotations)
	return marked
}

// since returns the object with a note of when its spec came into force, where that is what the cluster has already:
// the time of the write to come would say that it has yet to settle, and pods that need it would wait at their
// gates. Where pods of one host follow each other, as those of Jobs do, they would wait for as long as the first of
// them keep ending.
func (o object) since(have object) object {
	if have.mark() != "" || !sameSpec(o.spec, have.spec) {
		return o
	}
	noted := o.clone()
	annotations := maps.Clone(o.GetAnnotations())
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[mesh.AnnotationInForceSince] = mesh.AcceptedAt(have).UTC().Format(time.RFC3339)
	noted.SetAnnotations(annotations)
	return noted
}

func (o object) clone() object { return o.wrap(o.DeepCopyObject().(client.Object)) }

// sameSpec compares what two pointers to specs of one kind point to.
func sameSpec(a, b any) bool {
	if message, ok := a.(proto.Message); ok {
		other, ok := b.(proto.Message)
		return ok && proto.Equal(message, other)
	}
	return equality.Semantic.DeepEqual(a, b)
}

// configuration is what is sent in server-side apply. The UID and the resourceVersion make the API
// server refuse it when the object is no longer the one that was looked at.
func (o object) configuration(uid types.UID, resourceVersion string) (*unstructured.Unstructured, error) {
	spec, err := o.specMap()
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	u.SetGroupVersionKind(o.GroupVersionKind)
	u.SetNamespace(o.GetNamespace())
	u.SetName(o.GetName())
	u.SetLabels(o.GetLabels())
	if annotations := o.GetAnnotations(); len(annotations) > 0 {
		u.SetAnnotations(annotations)
	}
	u.SetResourceVersion(resourceVersion)
	u.SetUID(uid)
	return u, nil
}

// specMap is the spec as JSON knows it: Istio's types marshal by the rules of protobuf.
func (o object) specMap() (map[string]any, error) {
	data, err := json.Marshal(o.spec)
	if err != nil {
		return nil, fmt.Errorf("marshalling %s %s: %w", o.Kind, o.GetName(), err)
	}
	spec := map[string]any{}
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, fmt.Errorf("unmarshalling %s %s: %w", o.Kind, o.GetName(), err)
	}
	return spec, nil
}

// decode returns the typed object of an answer of the API server.
func (k *kind) decode(u *unstructured.Unstructured) (object, error) {
	data, err := u.MarshalJSON()
	if err != nil {
		return object{}, fmt.Errorf("marshalling %s %s: %w", u.GetKind(), u.GetName(), err)
	}
	typed := k.new()
	if err := json.Unmarshal(data, typed); err != nil {
		return object{}, fmt.Errorf("unmarshalling %s %s: %w", u.GetKind(), u.GetName(), err)
	}
	return k.wrap(typed), nil
}

// find returns the object of that kind and name in the namespace, as the pass knows it.
func (p *pass) find(k *kind, name string) (object, bool) {
	for _, o := range p.objects(k) {
		if o.GetName() == name {
			return o, true
		}
	}
	return object{}, false
}

// objects are those of the kind in the namespace, others' included.
func (p *pass) objects(k *kind) []object {
	return slices.DeleteFunc(k.known(&p.around), func(o object) bool { return o.GetNamespace() != p.namespace })
}

// learn brings the surroundings up to date with an answer of the API server.
func (p *pass) learn(o object) {
	p.unlearn(o)
	o.add(&p.around, o.Object)
}

func (p *pass) unlearn(o object) { o.remove(&p.around, o.GetNamespace(), o.GetName()) }

// contains reports whether all entries of some are in all.
func contains(all, some map[string]string) bool {
	for key, value := range some {
		if found, ok := all[key]; !ok || found != value {
			return false
		}
	}
	return true
}
