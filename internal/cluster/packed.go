package cluster

import (
	"bytes"
	"fmt"
	"sync"
	"weak"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
)

// packed is an object of Istio's in protobuf form, which takes a quarter of the memory of the Go object. Readers of one
// namespace unpack it. Objects that are exported are not packed, because the readers of all namespaces need them.
type packed interface {
	metav1.ObjectMetaAccessor
	// object returns the Go object, which readers share until a garbage collection finds that no reader has it.
	object() metav1.Object
	isManaged() bool
}

// packedAs is packed for the Go type T.
type packedAs[T any, P interface {
	*T
	metav1.Object
}] struct {
	// The informer reads these at each event.
	namespace, name, version string
	managed                  bool
	data                     []byte // the messages of parts

	mu       sync.Mutex
	unpacked weak.Pointer[T]
}

// GetObjectMeta returns what an informer reads.
func (p *packedAs[T, P]) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: p.namespace, Name: p.name, ResourceVersion: p.version}
}

func (p *packedAs[T, P]) isManaged() bool { return p.managed }

func (p *packedAs[T, P]) object() metav1.Object {
	p.mu.Lock()
	defer p.mu.Unlock()
	if object := p.unpacked.Value(); object != nil {
		return P(object)
	}
	object := new(T)
	meta, messages := parts(P(object))
	data := p.data
	next := func() []byte {
		part, n := protowire.ConsumeBytes(data)
		data = data[n:]
		return part
	}
	err := meta.Unmarshal(next())
	for _, message := range messages {
		if err == nil {
			err = proto.Unmarshal(next(), message)
		}
	}
	if err != nil { // pack has made the bytes
		panic(fmt.Errorf("unpacking %T %s/%s: %w", object, p.namespace, p.name, err))
	}
	meta.Namespace = p.namespace
	p.unpacked = weak.Make(object)
	return P(object)
}

// parts returns the metadata of an object of Istio's, and its other parts that are read.
func parts(object metav1.Object) (*metav1.ObjectMeta, []proto.Message) {
	switch object := object.(type) {
	case *networkingv1.ServiceEntry:
		return &object.ObjectMeta, []proto.Message{&object.Spec, &object.Status}
	case *networkingv1.DestinationRule:
		return &object.ObjectMeta, []proto.Message{&object.Spec}
	case *networkingv1.VirtualService:
		return &object.ObjectMeta, []proto.Message{&object.Spec}
	case *networkingv1.Sidecar:
		return &object.ObjectMeta, []proto.Message{&object.Spec}
	case *securityv1.PeerAuthentication:
		return &object.ObjectMeta, []proto.Message{&object.Spec}
	}
	panic(fmt.Errorf("%T is not of Istio", object))
}

// pack returns the object packed. An object that is exported, or is not valid in protobuf form, stays as it is.
func pack[T any, P interface {
	*T
	metav1.Object
}](object P) any {
	if len(mesh.ExportedTo(object)) > 0 {
		return object
	}
	meta, messages := parts(object)
	part, err := meta.Marshal()
	data := protowire.AppendBytes(nil, part)
	for _, message := range messages {
		if err == nil {
			part, err = proto.Marshal(message)
			data = protowire.AppendBytes(data, part)
		}
	}
	if err != nil {
		return object
	}
	return &packedAs[T, P]{
		namespace: intern(meta.Namespace),
		name:      meta.Name,
		version:   meta.ResourceVersion,
		managed:   mesh.IsManaged(object),
		data:      bytes.Clone(data),
	}
}

// unpack returns an object of a store as a Go object, nil for nil.
func unpack(in any) metav1.Object {
	switch in := in.(type) {
	case packed:
		return in.object()
	case metav1.Object:
		return in
	}
	return nil
}

// isManaged is mesh.IsManaged for an object of a store.
func isManaged(in any) bool {
	if p, ok := in.(packed); ok {
		return p.isManaged()
	}
	object, ok := in.(metav1.Object)
	return ok && mesh.IsManaged(object)
}
