// Command oldest writes the schemas of the oldest supported releases of Kubernetes and Istio, and of the Prometheus
// operator, to its own directory. It keeps only the kinds that redis-tls uses, without descriptions. Run it from the
// root of the repository after a change of the versions below. It downloads the modules, so it is not a part of "make
// generate".
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// The modules, and the files in them.
const (
	kubernetes = "k8s.io/kubernetes@v1.30.14"
	openAPI    = "api/openapi-spec/swagger.json"

	istio     = "istio.io/api@v1.24.2"
	istioCRDs = "kubernetes/customresourcedefinitions.gen.yaml"

	operator     = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
	operatorCRDs = "example/prometheus-operator-crd/monitoring.coreos.com_"
)

// definitions are the definitions of the kinds that the chart renders, and of pods.
var definitions = []string{
	"io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
	"io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
	"io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding",
	"io.k8s.api.apps.v1.Deployment",
	"io.k8s.api.batch.v1.Job",
	"io.k8s.api.core.v1.ConfigMap",
	"io.k8s.api.core.v1.Pod",
	"io.k8s.api.core.v1.ResourceQuota",
	"io.k8s.api.core.v1.Secret",
	"io.k8s.api.core.v1.Service",
	"io.k8s.api.core.v1.ServiceAccount",
	"io.k8s.api.networking.v1.NetworkPolicy",
	"io.k8s.api.policy.v1.PodDisruptionBudget",
	"io.k8s.api.rbac.v1.ClusterRole",
	"io.k8s.api.rbac.v1.ClusterRoleBinding",
	"io.k8s.api.rbac.v1.Role",
	"io.k8s.api.rbac.v1.RoleBinding",
}

// meshKinds are the kinds of mesh objects.
var meshKinds = []string{"ServiceEntry", "DestinationRule", "VirtualService", "Sidecar", "PeerAuthentication"}

func main() {
	if err := run(filepath.Join("test", "chart", "oldest")); err != nil {
		fmt.Fprintln(os.Stderr, "oldest:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	for name, make := range map[string]func() ([]any, error){
		"kubernetes.json":          kubernetesSchemas,
		"istio.json":               istioSchemas,
		"prometheus-operator.yaml": operatorDefinitions,
	} {
		documents, err := make()
		if err != nil {
			return err
		}
		var texts []string
		for _, document := range documents {
			text, err := json.Marshal(document)
			if err != nil {
				return err
			}
			texts = append(texts, string(text)+"\n")
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(texts, "---\n")), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// read returns a file of a module.
func read(module, file string) ([]byte, error) {
	output, err := exec.Command("go", "mod", "download", "-json", module).Output()
	if err != nil {
		return nil, fmt.Errorf("downloading %s: %w: %s", module, err, output)
	}
	var downloaded struct{ Dir string }
	if err := json.Unmarshal(output, &downloaded); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(downloaded.Dir, file))
}

// kubernetesSchemas returns the definitions and all that they refer to, by name.
func kubernetesSchemas() ([]any, error) {
	content, err := read(kubernetes, openAPI)
	if err != nil {
		return nil, err
	}
	var swagger struct {
		Definitions map[string]map[string]any `json:"definitions"`
	}
	if err := json.Unmarshal(content, &swagger); err != nil {
		return nil, err
	}
	kept := map[string]any{}
	for queue := definitions; len(queue) > 0; queue = queue[1:] {
		name := queue[0]
		if kept[name] != nil {
			continue
		}
		definition, there := swagger.Definitions[name]
		if !there {
			return nil, fmt.Errorf("%s has no definition %s", kubernetes, name)
		}
		kept[name] = definition
		walk(definition, func(node map[string]any) {
			forget(node, "description")
			if reference, is := node["$ref"].(string); is {
				queue = append(queue, strings.TrimPrefix(reference, "#/definitions/"))
			}
		})
	}
	return []any{map[string]any{"from": kubernetes, "definitions": kept}}, nil
}

// istioSchemas returns the schemas of meshKinds, by kind and version.
func istioSchemas() ([]any, error) {
	content, err := read(istio, istioCRDs)
	if err != nil {
		return nil, err
	}
	schemas := map[string]any{}
	for document := range strings.SplitSeq(string(content), "\n---\n") {
		var crd struct {
			Spec struct {
				Group    string
				Names    struct{ Kind string }
				Versions []struct {
					Name   string
					Schema struct {
						OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
					}
				}
			}
		}
		if err := yaml.Unmarshal([]byte(document), &crd); err != nil {
			return nil, err
		}
		for _, kind := range meshKinds {
			for _, version := range crd.Spec.Versions {
				if crd.Spec.Names.Kind == kind && version.Name == "v1" {
					walk(version.Schema.OpenAPIV3Schema, func(node map[string]any) { forget(node, "description") })
					schemas[crd.Spec.Group+"/v1 "+kind] = version.Schema.OpenAPIV3Schema
				}
			}
		}
	}
	if len(schemas) != len(meshKinds) {
		return nil, fmt.Errorf("%s has v1 of %d of the kinds %v", istio, len(schemas), meshKinds)
	}
	return []any{map[string]any{"from": istio, "schemas": schemas}}, nil
}

// operatorDefinitions returns the CustomResourceDefinitions of the Prometheus operator that the chart uses, one in each
// document.
func operatorDefinitions() ([]any, error) {
	var definitions []any
	for _, plural := range []string{"servicemonitors", "prometheusrules"} {
		content, err := read(operator, operatorCRDs+plural+".yaml")
		if err != nil {
			return nil, err
		}
		var crd map[string]any
		if err := yaml.Unmarshal(content, &crd); err != nil {
			return nil, err
		}
		walk(crd, func(node map[string]any) { forget(node, "description") })
		definitions = append(definitions, crd)
	}
	return definitions, nil
}

// walk visits every object of the value.
func walk(value any, visit func(map[string]any)) {
	switch v := value.(type) {
	case map[string]any:
		visit(v)
		for _, child := range v {
			walk(child, visit)
		}
	case []any:
		for _, child := range v {
			walk(child, visit)
		}
	}
}

// forget removes a text, but keeps a property of that name.
func forget(node map[string]any, name string) {
	if _, text := node[name].(string); text {
		delete(node, name)
	}
}
