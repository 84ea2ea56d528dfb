package controller

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/mesh"
)

// The kinds of object, as Events and the metric name them.
const (
	kindEntry = "ServiceEntry"
	kindRule  = "DestinationRule"
)

// object is a mesh object of either kind.
type object struct {
	client.Object
	kind string
	host string // the private host, which ties rules to their entry
	spec proto.Message
}

func entryObject(entry *networkingv1.ServiceEntry) object {
	o := object{Object: entry, kind: kindEntry, spec: &entry.Spec}
	if len(entry.Spec.Hosts) > 0 {
		o.host = entry.Spec.Hosts[0]
	}
	return o
}

func ruleObject(rule *networkingv1.DestinationRule) object {
	return object{Object: rule, kind: kindRule, host: rule.Spec.Host, spec: &rule.Spec}
}

func (o object) reference() *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: o.kind,
		Namespace: o.GetNamespace(), Name: o.GetName(), UID: o.GetUID(),
	}
}

// differs reports whether the object in the cluster is not as it should be. Labels and annotations that
// others have added are theirs to keep; the mark is ours.
func (o object) differs(have object) bool {
	return !proto.Equal(o.spec, have.spec) || !o.covered(have) || o.mark() != have.mark()
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

func (o object) clone() object {
	switch typed := o.DeepCopyObject().(type) {
	case *networkingv1.ServiceEntry:
		return entryObject(typed)
	case *networkingv1.DestinationRule:
		return ruleObject(typed)
	default:
		panic(fmt.Sprintf("a mesh object of type %T", typed)) // object is made by entryObject and ruleObject alone
	}
}

// configuration is what is sent in server-side apply. The UID and the resourceVersion make the API
// server refuse it when the object is no longer the one that was looked at.
func (o object) configuration(uid types.UID, resourceVersion string) (*unstructured.Unstructured, error) {
	spec, err := o.specMap()
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	u.SetGroupVersionKind(networkingv1.SchemeGroupVersion.WithKind(o.kind))
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
		return nil, fmt.Errorf("marshalling %s %s: %w", o.kind, o.GetName(), err)
	}
	spec := map[string]any{}
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, fmt.Errorf("unmarshalling %s %s: %w", o.kind, o.GetName(), err)
	}
	return spec, nil
}

// decode returns the typed object of an answer of the API server.
func decode(u *unstructured.Unstructured) (object, error) {
	data, err := u.MarshalJSON()
	if err != nil {
		return object{}, fmt.Errorf("marshalling %s %s: %w", u.GetKind(), u.GetName(), err)
	}
	if u.GetKind() == kindEntry {
		entry := &networkingv1.ServiceEntry{}
		err = json.Unmarshal(data, entry)
		return entryObject(entry), err
	}
	rule := &networkingv1.DestinationRule{}
	err = json.Unmarshal(data, rule)
	return ruleObject(rule), err
}

// find returns the object of that kind and name in the namespace, as the pass knows it.
func (p *pass) find(kind, name string) (object, bool) {
	for _, o := range p.objects(kind) {
		if o.GetName() == name {
			return o, true
		}
	}
	return object{}, false
}

// objects are those of the kind in the namespace, others' included.
func (p *pass) objects(kind string) []object {
	var found []object
	if kind == kindRule {
		for _, rule := range p.around.Rules {
			if rule.Namespace == p.namespace {
				found = append(found, ruleObject(rule))
			}
		}
		return found
	}
	for _, entry := range p.around.Entries {
		if entry.Namespace == p.namespace {
			found = append(found, entryObject(entry))
		}
	}
	return found
}

// learn brings the surroundings up to date with an answer of the API server.
func (p *pass) learn(o object) {
	p.unlearn(o)
	switch typed := o.Object.(type) {
	case *networkingv1.ServiceEntry:
		p.around.Entries = append(p.around.Entries, typed)
	case *networkingv1.DestinationRule:
		p.around.Rules = append(p.around.Rules, typed)
	}
}

func (p *pass) unlearn(o object) {
	same := func(namespace, name string) bool { return namespace == o.GetNamespace() && name == o.GetName() }
	if o.kind == kindRule {
		p.around.Rules = slices.DeleteFunc(p.around.Rules, func(rule *networkingv1.DestinationRule) bool {
			return same(rule.Namespace, rule.Name)
		})
		return
	}
	p.around.Entries = slices.DeleteFunc(p.around.Entries, func(entry *networkingv1.ServiceEntry) bool {
		return same(entry.Namespace, entry.Name)
	})
}

// contains reports whether all entries of some are in all.
func contains(all, some map[string]string) bool {
	for key, value := range some {
		if found, ok := all[key]; !ok || found != value {
			return false
		}
	}
	return true
}
