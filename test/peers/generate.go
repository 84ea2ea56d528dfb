package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
)

// generated is the label of pods for which Kyverno generates. They have no annotation of redis-tls.
const generated = "peers/generate"

// kinds of the mesh objects, with the resource.
var kinds = map[string]string{"ServiceEntry": "serviceentries", "DestinationRule": "destinationrules"}

var networking = schema.GroupVersion{Group: "networking.istio.io", Version: "v1"}

// meshObjects returns the content of the mesh objects of a namespace, without what only redis-tls may write: its label,
// and hosts of its domain.
func meshObjects(ctx context.Context, b *bed.Bed, namespace string) ([]map[string]any, error) {
	var objects []map[string]any
	for _, kind := range []string{"ServiceEntry", "DestinationRule"} {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(networking.WithKind(kind))
		if err := b.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return nil, err
		}
		for _, u := range list.Items {
			labels := u.GetLabels()
			delete(labels, managedBy)
			objects = append(objects, map[string]any{
				"apiVersion": networking.String(),
				"kind":       kind,
				"metadata":   map[string]any{"name": u.GetName(), "labels": anyMap(labels)},
				"spec":       variable(u.Object["spec"], "redis-tls.internal", "peers.internal"),
			})
		}
	}
	return objects, nil
}

// equalSpecs returns an error if a namespace does not have the objects of the sample's.
func equalSpecs(ctx context.Context, b *bed.Bed, want []map[string]any, sample, namespace string) error {
	got, err := meshObjects(ctx, b, namespace)
	if err != nil {
		return err
	}
	return sameSpecs(want, got, sample, namespace)
}

func sameSpecs(want, got []map[string]any, sample, namespace string) error {
	byName := func(objects []map[string]any) map[string]any {
		out := map[string]any{}
		for _, o := range objects {
			name := fmt.Sprint(o["kind"], " ", o["metadata"].(map[string]any)["name"])
			out[strings.ReplaceAll(name, sample, namespace)] = variable(o["spec"], sample, namespace)
		}
		return out
	}
	if diff := cmp.Diff(byName(want), byName(got)); diff != "" {
		return fmt.Errorf("the objects of namespace %s differ (-want +got):\n%s", namespace, diff)
	}
	return nil
}

func anyMap(m map[string]string) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// variable replaces a text in all strings of the object.
func variable(v any, text, by string) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, value := range v {
			out[key] = variable(value, text, by)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = variable(v[i], text, by)
		}
		return out
	case string:
		return strings.ReplaceAll(v, text, by)
	default:
		return v
	}
}

// generatingPolicy is a Kyverno policy in CEL that generates the objects of the namespace for every other namespace
// with a pod that has the label.
func generatingPolicy(objects []map[string]any, namespace string) string {
	var all []string
	for _, o := range objects {
		// A text with the name of the namespace becomes a concatenation.
		all = append(all, strings.ReplaceAll(literal(any(o)), namespace, `" + variables.ns + "`))
	}
	return policy(map[string]any{
		"apiVersion": "policies.kyverno.io/v1",
		"kind":       "GeneratingPolicy",
		"metadata":   map[string]any{"name": "redis-tls-cel"},
		"spec": map[string]any{
			"matchConstraints": pods(map[string]any{generated: "cel"}),
			"variables": []any{
				map[string]any{"name": "ns", "expression": "object.metadata.namespace"},
			},
			"generate": []any{map[string]any{
				"expression": "generator.apply(variables.ns, [" + strings.Join(all, ",\n") + "])",
			}},
		},
	})
}

// clusterGenerate is the same as a Kyverno policy of the older kind, with a rule for each object.
func clusterGenerate(objects []map[string]any, namespace string) string {
	const ns = "{{request.namespace}}"
	var rules []any
	for i, o := range objects {
		metadata := o["metadata"].(map[string]any)
		rules = append(rules, map[string]any{
			"name": fmt.Sprintf("object-%d", i),
			"match": map[string]any{"any": []any{map[string]any{"resources": map[string]any{
				"kinds":      []any{"Pod"},
				"operations": []any{"CREATE"},
				"selector":   map[string]any{"matchLabels": map[string]any{generated: "cluster"}},
			}}}},
			"generate": map[string]any{
				"synchronize": false,
				"apiVersion":  o["apiVersion"],
				"kind":        o["kind"],
				"name":        variable(metadata["name"], namespace, ns),
				"namespace":   ns,
				"data": map[string]any{
					"metadata": map[string]any{"labels": metadata["labels"]},
					"spec":     variable(o["spec"], namespace, ns),
				},
			},
		})
	}
	return policy(map[string]any{
		"apiVersion": "kyverno.io/v1",
		"kind":       "ClusterPolicy",
		"metadata":   map[string]any{"name": "redis-tls-generate"},
		"spec":       map[string]any{"rules": rules},
	})
}
