// Package preview shows how a cluster would admit manifests, without a cluster.
//
// [Run] rewrites each pod and pod template of the input as its pods would be admitted. It returns the mesh objects that
// the controller would create, and the problems and warnings that users would get. Package inject makes the decisions,
// as in the webhook. [YAML], [JSON] and [Diff] print the result.
package preview

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/view"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/workload"
	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Input is the manifests and the configuration to preview.
type Input struct {
	Files []*manifest.File
	// NamespaceFiles describe Namespaces, in addition to those in Files.
	NamespaceFiles []*manifest.File
	// Namespace is the namespace of objects that do not set one.
	Namespace string
	Config    config.Config
}

// Result is the outcome of a preview. The files of the input are rewritten in place.
type Result struct {
	// Created are the new mesh objects, which the files do not contain.
	Created []any
	// Findings are the problems and warnings, in the order of the checks.
	Findings []Finding
}

// preview is one run over an input.
type preview struct {
	view      *view.Memory
	injector  inject.Injector
	objects   []object
	result    Result
	admitting []string // namespaces of admitted pods, in the order of their first pod
}

// Run previews the input. It returns an error only for a bug of redis-tls. Errors of the input are Problems.
func Run(in Input) (Result, error) {
	memory := view.New(in.Config.Istio.RootNamespace)
	memory.CertManager = mesh.Present // its Certificates count as issued
	p := preview{view: memory, injector: inject.Injector{Config: in.Config, View: memory, Offline: true}}
	p.describe(slices.Concat(in.NamespaceFiles, in.Files))
	for _, file := range in.Files {
		for _, document := range file.Documents {
			objects := objectsOf(file, document, in.Namespace)
			if len(objects) == 0 {
				p.unread(object{file: file, document: document}, nil)
			}
			p.objects = append(p.objects, objects...)
		}
	}
	p.read()
	for _, o := range p.objects {
		workloads := workloadsOf(o)
		if !o.isNamespace() {
			p.unread(o, workloads)
		}
		for _, w := range workloads {
			if err := p.pod(o, w); err != nil {
				return Result{}, fmt.Errorf("%s: %s: %w", o.file.Name, o, err)
			}
		}
	}
	return p.result, p.mesh(in.Config)
}

// describe adds the Namespaces of the files to the view.
func (p *preview) describe(files []*manifest.File) {
	for _, o := range namespacesIn(files) {
		p.unread(o, nil)
		errs := checkMetadata(o.value["metadata"])
		for _, err := range errs {
			p.problem(o, nil, err.Field, ReasonInvalidManifest, err.Error())
		}
		if len(errs) > 0 {
			continue
		}
		meta, err := convert[metav1.ObjectMeta](o.value["metadata"])
		if err != nil {
			p.problem(o, nil, "", ReasonInvalidManifest, err.Error())
			continue
		}
		p.view.Namespaces[o.name] = view.Namespace{Labels: meta.Labels, Annotations: meta.Annotations}
	}
}

// pod admits the pod, or the pods of the workload, and rewrites the object.
func (p *preview) pod(o object, w workload.Workload) error {
	template, ok := lookup(o.value, w.Template).(map[string]any)
	if !ok {
		p.problem(o, w.Template, "", ReasonInvalidManifest, fmt.Sprintf(
			"%s: Required value: a %s must have a pod template", fieldOf(w.Template), o.Kind))
		return nil
	}
	if errs := checkMetadata(template["metadata"]); len(errs) > 0 {
		for _, err := range errs {
			p.problem(o, w.Template, err.Field, ReasonInvalidManifest, err.Error())
		}
		return nil
	}
	submitted := submit(o, w, template)
	pod, err := convert[corev1.Pod](submitted.pod)
	if err != nil && w.Custom && !requests(template) {
		return nil
	}
	if err != nil {
		p.problem(o, w.Template, fieldIn(err), ReasonInvalidManifest, err.Error())
		return nil
	}
	decision := p.injector.Inject(o.namespace, &pod)
	p.warnings(o, w, decision)
	if len(decision.Warnings) > 0 && p.undescribed(o.namespace) {
		p.warn(o, ReasonNoNamespace, nil, fmt.Sprintf(
			"namespace %s is not in the input, so it has no labels and annotations here; describe it with --namespace-file",
			o.namespace))
	}
	if !decision.Allowed {
		for _, problem := range decision.Problems {
			p.problem(o, w.Template, problem.Err.Field, string(problem.Reason), problem.Err.Error())
		}
		return nil
	}
	p.record(o, w, decision)
	p.files(o, w, decision)
	if len(decision.Operations) == 0 {
		return nil
	}
	admitted, err := submitted.admit(decision)
	if err != nil {
		return err
	}
	return o.document.Rewrite(with(o.document.Value, slices.Concat(o.path, w.Template), admitted))
}

// requests reports whether the annotations of a pod template have keys of redis-tls.
func requests(template map[string]any) bool {
	annotations, _ := lookup(template, []any{"metadata", "annotations"}).(map[string]any)
	for key := range annotations {
		if annotation.Requested(map[string]string{key: ""}) {
			return true
		}
	}
	return false
}

// podName returns a name of the pods of a workload that tells the workloads of the object apart.
func podName(o object, w workload.Workload) string {
	if len(workloadsOf(o)) == 1 {
		return o.String()
	}
	return o.String() + " " + fieldOf(w.Template)
}

// record adds the pod's request to the view. The pod of an earlier document is older.
func (p *preview) record(o object, w workload.Workload, decision inject.Decision) {
	if decision.Reason == origination.ReasonInjected {
		p.admit(o.namespace, mesh.Request{Originations: decision.Originations, Settings: decision.Settings,
			Pod: podName(o, w), Since: time.Unix(int64(len(p.view.Requests[o.namespace])), 0).UTC()})
	}
}

// admit adds the request of an admitted pod, so that later pods see it.
func (p *preview) admit(namespace string, r mesh.Request) {
	if p.view.Requests[namespace] == nil {
		p.admitting = append(p.admitting, namespace)
	}
	p.view.Admit(namespace, r)
}

// undescribed reports whether the input does not describe the namespace. It reports true only once.
func (p *preview) undescribed(name string) bool {
	_, described := p.view.Namespaces[name]
	if !described {
		p.view.Namespaces[name] = view.Namespace{}
	}
	return !described
}
