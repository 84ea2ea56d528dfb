package chart

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/redis-tls/redis-tls/test/harness"
)

// These tests use the schemas of the oldest supported releases of Kubernetes and Istio (see package oldest). An API
// server drops or refuses unknown fields. Here they fail.

// object is a JSON object.
type object = map[string]any

// TestObjectsAreThoseOfTheOldestKubernetes proves that Kubernetes 1.30 has every field of the rendered objects, hooks
// included.
func TestObjectsAreThoseOfTheOldestKubernetes(t *testing.T) {
	schemas := kubernetesSchemas(t)
	for name, release := range releases(t) {
		t.Run(name, func(t *testing.T) {
			checked := 0
			for _, o := range slices.Concat(release.Objects, release.Hooks) {
				if slices.Contains([]string{"cert-manager.io", "monitoring.coreos.com"}, o.GroupVersionKind().Group) {
					continue
				}
				if err := validate(schemas, o); err != nil {
					t.Error(err)
				}
				checked++
			}
			if checked < 15 {
				t.Errorf("checked %d objects, want those of the chart", checked)
			}
		})
	}
}

// TestMeshObjectsAreThoseOfTheOldestIstio proves the same for Istio 1.24 and the mesh objects in the goldens of the
// command line.
func TestMeshObjectsAreThoseOfTheOldestIstio(t *testing.T) {
	schemas := istioSchemas(t)
	files, err := filepath.Glob("../../cmd/redis-tls/testdata/*/want.yaml")
	if err != nil {
		t.Fatal(err)
	}
	checked := map[string]int{}
	for _, file := range files {
		objects, err := harness.ReadObjects(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			if group := o.GroupVersionKind().Group; group != "networking.istio.io" && group != "security.istio.io" {
				continue
			}
			if err := validate(schemas, o); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			checked[o.GetKind()]++
		}
	}
	for kind := range schemas {
		_, kind, _ := strings.Cut(kind, " ")
		if checked[kind] == 0 {
			t.Errorf("no case has a %s", kind)
		}
	}
}

// TestNewerFieldsAreFound proves that the schemas refuse newer and wrong fields.
func TestNewerFieldsAreFound(t *testing.T) {
	schemas := kubernetesSchemas(t)
	maps.Copy(schemas, istioSchemas(t))
	for name, test := range map[string]struct{ object, want string }{
		"resources of a pod, since 1.32": {
			object: "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {" +
				"containers: [{name: a, image: a}], resources: {limits: {cpu: 1}}}}",
			want: "at '/spec': additional properties 'resources' not allowed",
		},
		"a stop signal, since 1.33": {
			object: "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {" +
				"containers: [{name: a, image: a, lifecycle: {stopSignal: SIGTERM}}]}}",
			want: "at '/spec/containers/0/lifecycle': additional properties 'stopSignal' not allowed",
		},
		"a kind of another version": {
			object: "{apiVersion: admissionregistration.k8s.io/v1, kind: MutatingAdmissionPolicy, metadata: {name: a}}",
			want:   "there is no admissionregistration.k8s.io/v1 MutatingAdmissionPolicy",
		},
		"a replica count that is a string": {
			object: "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, " +
				"spec: {replicas: two, selector: {}, template: {}}}",
			want: "at '/spec/replicas': got string, want integer",
		},
		"a field of a newer Istio": {
			object: "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: a}, " +
				"spec: {host: a, trafficPolicy: {retryBudget: {percent: 1}}}}",
			want: "at '/spec/trafficPolicy': additional properties 'retryBudget' not allowed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			objects, err := harness.ParseObjects([]byte(test.object))
			if err != nil {
				t.Fatal(err)
			}
			if err := validate(schemas, objects[0]); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

// releases returns the rendered release of each case of testdata.
func releases(t *testing.T) map[string]*harness.Release {
	t.Helper()
	files, err := filepath.Glob("testdata/*/values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("found no values: %v", err)
	}
	all := map[string]*harness.Release{}
	for _, file := range files {
		release, err := harness.RenderChart(chartDir, readValues(t, file), nil)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[filepath.Base(filepath.Dir(file))] = release
	}
	return all
}

// schemas are compiled schemas by "apiVersion kind".
type schemas = map[string]*jsonschema.Schema

func validate(known schemas, o *unstructured.Unstructured) error {
	kind := o.GetAPIVersion() + " " + o.GetKind()
	s, there := known[kind]
	if !there {
		return fmt.Errorf("there is no %s", kind)
	}
	// The validator needs numbers as in JSON.
	text, err := json.Marshal(o.Object)
	if err != nil {
		return err
	}
	instance, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		return err
	}
	if err := s.Validate(instance); err != nil {
		return fmt.Errorf("%s %s: %w", kind, o.GetName(), err)
	}
	return nil
}

func kubernetesSchemas(t *testing.T) schemas {
	t.Helper()
	root := readSchemas(t, "kubernetes.json")
	definitions := root["definitions"].(object)
	for _, definition := range definitions {
		strict(definition)
	}
	// The OpenAPI describes these as strings with a format.
	definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = object{"type": []any{"string", "integer"}}
	definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = object{"type": []any{"string", "number"}}
	compiler := jsonschema.NewCompiler()
	all := schemas{}
	if err := compiler.AddResource("kubernetes.json", root); err != nil {
		t.Fatal(err)
	}
	for name, definition := range definitions {
		kinds, _ := definition.(object)["x-kubernetes-group-version-kind"].([]any)
		for _, k := range kinds {
			kind := k.(object)
			version := strings.TrimPrefix(kind["group"].(string)+"/"+kind["version"].(string), "/")
			compiled, err := compiler.Compile("kubernetes.json#/definitions/" + name)
			if err != nil {
				t.Fatal(err)
			}
			all[version+" "+kind["kind"].(string)] = compiled
		}
	}
	return all
}

func istioSchemas(t *testing.T) schemas {
	t.Helper()
	all := schemas{}
	for kind, s := range readSchemas(t, "istio.json")["schemas"].(object) {
		strict(s)
		properties := s.(object)["properties"].(object)
		properties["apiVersion"], properties["kind"], properties["metadata"] = true, true, true // common to all objects
		compiler := jsonschema.NewCompiler()
		if err := compiler.AddResource("istio.json", s); err != nil {
			t.Fatal(err)
		}
		compiled, err := compiler.Compile("istio.json")
		if err != nil {
			t.Fatal(err)
		}
		all[kind] = compiled
	}
	return all
}

func readSchemas(t *testing.T, name string) object {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("oldest", name))
	if err != nil {
		t.Fatal(err)
	}
	content, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	root, is := content.(object)
	if err != nil || !is {
		t.Fatal(errors.Join(err, fmt.Errorf("%s is not a JSON object", name)))
	}
	return root
}

// strict makes every object of the schema refuse properties that it does not name. Alternatives like oneOf only
// constrain properties that are named elsewhere.
func strict(node any) {
	s, is := node.(object)
	if !is {
		return
	}
	properties, has := s["properties"].(object)
	if _, open := s["additionalProperties"]; has && !open && s["x-kubernetes-preserve-unknown-fields"] != true {
		s["additionalProperties"] = false
	}
	for _, property := range properties {
		strict(property)
	}
	strict(s["items"])
	strict(s["additionalProperties"])
}
