package preview

import (
	"fmt"
	"slices"
	"strings"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/workload"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// reference is a Secret or a ConfigMap that a pod needs for TLS.
type reference struct {
	kind, name string
	keys       []string // one of these is enough
	annotation string   // the name of the key of redis-tls that refers to it
}

// files warns about each Secret and ConfigMap that an injected pod mounts and that the input does not have, or has
// without the key: the pod would wait for it.
//
//	the object                                        | warning
//	in the input, with the key                        | none
//	in the input, without the key                     | yes
//	not in the input, made by another object there    | none
//	not in the input, which has others of its kind    | yes
//	not in the input, which has no other of its kind  | none: it may be delivered in another way
func (p *preview) files(o object, w workload.Workload, decision inject.Decision) {
	for i := range decision.Originations {
		for _, r := range references(&decision.Originations[i]) {
			if detail := p.missing(o.namespace, r); detail != "" {
				p.warn(o, ReasonMissingFile, annotated(o, w, decision.Originations[i].Instances, r.annotation), detail)
			}
		}
	}
}

// references returns the objects with the TLS files of the origination, except those that cert-manager makes.
func references(o *origination.Origination) (all []reference) {
	t := &o.TLS
	ca := []string{t.CAKey}
	if t.SDS {
		ca = []string{t.CAKey, "cacert", "ca.crt"} // Istio's secret discovery reads one of them
	}
	issued := t.Certificate != "" || t.Issuer != (origination.Issuer{})
	switch {
	case t.CAConfigMap != "":
		all = append(all, reference{"ConfigMap", t.CAConfigMap, ca, "ca-configmap"})
	case t.CASecret == "", t.CASecret == t.ClientSecret && (issued || t.SDS):
	case t.CASecret == t.ClientSecret:
		all = append(all, reference{"Secret", t.CASecret, ca, "client-secret"})
	default:
		all = append(all, reference{"Secret", t.CASecret, ca, "ca-secret"})
	}
	if t.ClientSecret != "" && !issued {
		for _, keys := range [][]string{{"tls.crt", "cert"}, {"tls.key", "key"}} {
			if !t.SDS {
				keys = keys[:1] // the others are read by secret discovery only
			}
			all = append(all, reference{"Secret", t.ClientSecret, keys, "client-secret"})
		}
	}
	return all
}

// missing says what is missing of a reference, or returns "".
func (p *preview) missing(namespace string, r reference) string {
	others := false
	for _, o := range p.objects {
		switch {
		case o.namespace != namespace || o.group() != "" || o.Kind != r.kind:
		case o.name != r.name:
			others = true
		case slices.ContainsFunc(r.keys, o.hasData):
			return ""
		default:
			return fmt.Sprintf("must name a %s with the key %s, which %s does not have; add the key, or name another %[1]s",
				r.kind, r.keys[0], r.name)
		}
	}
	builtIn := []string{"kube-root-ca.crt", "istio-ca-root-cert", "openshift-service-ca.crt"}
	if !others || slices.Contains(builtIn, r.name) || slices.ContainsFunc(p.objects, func(o object) bool {
		return o.makes(r.name)
	}) {
		return ""
	}
	return fmt.Sprintf("must name an existing %s, and %s is not among those of namespace %s in the input; "+
		"add it, or correct the name", r.kind, r.name, namespace)
}

// hasData reports whether a Secret or a ConfigMap has the key.
func (o object) hasData(key string) bool {
	for _, field := range []string{"data", "stringData", "binaryData"} {
		if data, ok := o.value[field].(map[string]any); ok && data[key] != nil {
			return true
		}
	}
	return false
}

// makes reports whether an object of another kind makes a Secret or a ConfigMap of the name: a Certificate of
// cert-manager, an ExternalSecret, a SealedSecret, a Bundle of trust-manager and the like.
func (o object) makes(name string) bool {
	for _, path := range [][]any{{"spec", "secretName"}, {"spec", "target", "name"}, {"spec", "destination", "name"}} {
		if lookup(o.value, path) == name {
			return true
		}
	}
	return o.name == name && o.group() != "" && (strings.HasSuffix(o.Kind, "Secret") || o.Kind == "Bundle")
}

// annotated returns the path of the annotation of one of the instances, or that of the pod if it inherits them.
func annotated(o object, w workload.Workload, instances []string, name string) []any {
	at := append(slices.Clone(w.Template), "metadata", "annotations")
	annotations, _ := lookup(o.value, at).(map[string]any)
	for _, instance := range instances {
		if key := origination.KeyOf(instance, name); annotations[key] != nil {
			return append(at, key)
		}
	}
	return w.Template
}
