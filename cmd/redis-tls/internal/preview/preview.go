// Package preview shows what the cluster would do with manifests, without a cluster.
//
// In go files of manifests and the configuration; out come the same files with every pod and every pod
// template as its pods would be admitted, the mesh objects that the controller would create, and what
// users would be told. It decides nothing itself: that is package inject, which the webhook calls too.
package preview

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/inject"
	"github.com/redis-tls/redis-tls/mesh"
	"github.com/redis-tls/redis-tls/origination"
)

// Input is what to preview.
type Input struct {
	Files []*manifest.File
	// NamespaceFiles describe Namespaces, beside those in Files.
	NamespaceFiles []*manifest.File
	// Namespace is that of objects that name none.
	Namespace string
	Config    origination.Config
}

// Result is what the cluster would do. The input's files are rewritten in place.
type Result struct {
	// Created are the mesh objects that are not among the files' documents.
	Created []any
	// Warnings are what users would see and be served nonetheless, Problems what is refused.
	Warnings, Problems []Finding
}

// preview is one run over an input.
type preview struct {
	view     *offline
	injector inject.Injector
	objects  []object
	result   Result
}

// Run previews the input. Its error is a fault of ours; those of the input are Problems.
func Run(in Input) (Result, error) {
	view := &offline{
		rootNamespace: in.Config.Istio.RootNamespace,
		namespaces:    namespacesIn(slices.Concat(in.NamespaceFiles, in.Files)),
		claims:        map[string][]mesh.Claim{},
	}
	p := preview{view: view, injector: inject.Injector{Config: in.Config, View: view}}
	for _, file := range in.Files {
		for _, document := range file.Documents {
			p.objects = append(p.objects, objectsOf(file, document, in.Namespace)...)
		}
	}
	for _, o := range p.objects {
		if w, ok := workloadOf(o); ok {
			if err := p.pod(o, w); err != nil {
				return Result{}, fmt.Errorf("%s: %s: %w", o.file.Name, o, err)
			}
		}
	}
	return p.result, p.mesh(in.Config)
}

// namespacesIn returns the labels and annotations of the files' Namespaces.
func namespacesIn(files []*manifest.File) map[string]namespace {
	found := map[string]namespace{}
	for _, o := range Namespaces(files) {
		found[o.Name] = namespace{o.Labels, o.Annotations}
	}
	return found
}

// Namespaces returns the Namespaces that the files describe.
func Namespaces(files []*manifest.File) []metav1.ObjectMeta {
	var found []metav1.ObjectMeta
	for _, file := range files {
		for _, document := range file.Documents {
			for _, o := range objectsOf(file, document, "") {
				if o.APIVersion != "v1" || o.Kind != "Namespace" {
					continue
				}
				// Wrong types are the API server's to refuse.
				if meta, err := convert[metav1.ObjectMeta](o.value["metadata"]); err == nil {
					found = append(found, meta)
				}
			}
		}
	}
	return found
}

// pod decides about the pod, or the pods of the workload, and rewrites it.
func (p *preview) pod(o object, w workload) error {
	template, _ := lookup(o.value, w.template).(map[string]any)
	submitted, err := submit(o, w, template)
	if err != nil {
		p.result.Problems = append(p.result.Problems, o.finding(err.Error(), "", w.template))
		return nil
	}
	pod, err := convert[corev1.Pod](submitted)
	if err != nil {
		p.result.Problems = append(p.result.Problems, o.finding(fmt.Sprintf("not a pod: %s", err), "", w.template))
		return nil
	}
	decision := p.injector.Inject(o.namespace, &pod)
	for _, warning := range decision.Warnings {
		p.result.Warnings = append(p.result.Warnings, o.finding(warning, "", w.template))
	}
	if !decision.Allowed {
		for _, problem := range decision.Problems {
			p.result.Problems = append(p.result.Problems, o.finding(problem.Err.Error(), problem.Err.Field, w.template))
		}
		return nil
	}
	p.claim(o, &pod, decision.Originations)
	if len(decision.Operations) == 0 {
		return nil
	}
	admitted, err := apply(submitted, decision)
	if err != nil {
		return err
	}
	path := slices.Concat(o.path, w.template)
	return o.document.Rewrite(with(o.document.Value, path, withdraw(admitted, template, submitted)))
}

// claim records what the pod was admitted with. Of two claims the one of the earlier document is older.
func (p *preview) claim(o object, pod *corev1.Pod, os []origination.Origination) {
	owner, revision := mesh.WorkloadOf(pod)
	created := time.Unix(int64(len(p.view.claims[o.namespace])), 0).UTC()
	for _, origination := range os {
		p.view.add(o.namespace, mesh.Claim{
			Workload: owner, Revision: revision, First: created, Last: created, Pod: pod.Name, Origination: origination,
		})
	}
}
