package controller

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// object is a mesh object of one of the kinds.
type object struct {
	client.Object
	*kind
}

// host returns the object's host in the mesh, or the object's own name if it has none.
func (o object) host() string { return o.hostOf(o.Object) }

// spec returns a pointer to the spec.
func (o object) spec() any { return o.specOf(o.Object) }

// group identifies the objects of one host.
func (o object) group() string { return origination.Group(o.host()) }

// shared reports whether the object belongs to several keys and changes with them, as those of protocol http do.
func (o object) shared() bool {
	return (o.kind == kindEntry || o.kind == kindRoute || o.kind == kindRule) && o.group() == o.host()
}

func (o object) reference() *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: o.GroupVersion().String(), Kind: o.Kind,
		Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(),
	}
}

// differs reports whether the object in the cluster differs from the desired one. Labels and annotations that others
// have added do not count, except the annotations of redis-tls.
func (o object) differs(have object) bool {
	return have.recorded() || have.lingers() || !contains(have.GetLabels(), o.GetLabels()) ||
		!sameSpec(o.spec(), have.spec())
}

// mark returns when the object was marked for deletion, in RFC 3339, or "".
func (o object) mark() string { return o.GetAnnotations()[mesh.AnnotationDeleting] }

// unusedSince returns since when the object is unused, as recorded on it.
func (o object) unusedSince() (time.Time, bool) {
	since, err := time.Parse(time.RFC3339, o.GetAnnotations()[mesh.AnnotationUnused])
	return since, err == nil
}

// recorded reports whether something about the object's disuse is recorded on it.
func (o object) recorded() bool {
	annotations := o.GetAnnotations()
	return annotations[mesh.AnnotationDeleting] != "" || annotations[mesh.AnnotationUnused] != ""
}

// lingers reports whether the object was created for a key without live pods.
func (o object) lingers() bool { return o.GetAnnotations()[mesh.AnnotationLingering] != "" }

// acknowledges reports whether the object is the namespace's acknowledgement.
func (o object) acknowledges() bool {
	entry, ok := o.Object.(*networkingv1.ServiceEntry)
	return ok && mesh.IsAcknowledgement(entry)
}

func (o object) clone() object { return o.wrap(o.DeepCopyObject().(client.Object)) }

// sameSpec compares two specs of one kind, given as pointers. Mostly they are equal and marshal to equal bytes, which
// takes less than half of the time of proto.Equal and no memory. Maps of several keys may marshal in another order, but
// the maps of managed objects have one key.
func sameSpec(a, b any) bool {
	message, ok := a.(proto.Message)
	if !ok {
		return reflect.DeepEqual(a, b) || equality.Semantic.DeepEqual(a, b)
	}
	other, ok := b.(proto.Message)
	if !ok {
		return false
	}
	buffers := marshalled.Get().(*[2][]byte)
	defer marshalled.Put(buffers)
	for i, m := range []proto.Message{message, other} {
		data, err := proto.MarshalOptions{}.MarshalAppend(buffers[i][:0], m)
		if err != nil {
			return proto.Equal(message, other)
		}
		buffers[i] = data
	}
	return bytes.Equal(buffers[0], buffers[1]) || proto.Equal(message, other)
}

// marshalled are buffers for sameSpec.
var marshalled = sync.Pool{New: func() any { return new([2][]byte) }}

// configuration returns the object as it is created, without a status.
func (o object) configuration(cfg config.Config) (*unstructured.Unstructured, error) {
	spec, err := o.specMap()
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	u.SetGroupVersionKind(o.GroupVersionKind)
	u.SetNamespace(o.GetNamespace())
	u.SetName(o.GetName())
	u.SetLabels(o.GetLabels())
	u.SetAnnotations(o.GetAnnotations())
	mesh.AddMetadata(u, cfg)
	return u, nil
}

// specMap returns the spec in JSON form. Istio's types marshal by the rules of protobuf.
func (o object) specMap() (map[string]any, error) {
	data, err := json.Marshal(o.spec())
	if err != nil {
		return nil, fmt.Errorf("marshalling %s %s: %w", o.Kind, o.GetName(), err)
	}
	spec := map[string]any{}
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, fmt.Errorf("unmarshalling %s %s: %w", o.Kind, o.GetName(), err)
	}
	return spec, nil
}

// contains reports whether all entries of the second map are in the first.
func contains(all, some map[string]string) bool {
	for key, value := range some {
		if found, ok := all[key]; !ok || found != value {
			return false
		}
	}
	return true
}
