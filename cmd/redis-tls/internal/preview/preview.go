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

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Input is what to preview.
type Input struct {
	Files []*manifest.File
	// NamespaceFiles describe Namespaces, beside those in Files.
	NamespaceFiles []*manifest.File
	// Namespace is that of objects that name none.
	Namespace string
	Config    config.Config
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
		namespaces:    map[string]namespace{},
		live:          map[string][]mesh.Request{},
		certificates:  map[string][]*certmanagerv1.Certificate{},
	}
	p := preview{view: view, injector: inject.Injector{Config: in.Config, View: view, Offline: true}}
	p.describe(slices.Concat(in.NamespaceFiles, in.Files))
	for _, file := range in.Files {
		for _, document := range file.Documents {
			p.objects = append(p.objects, objectsOf(file, document, in.Namespace)...)
		}
	}
	p.certificates()
	for _, o := range p.objects {
		if w, ok := workloadOf(o); ok {
			if err := p.pod(o, w); err != nil {
				return Result{}, fmt.Errorf("%s: %s: %w", o.file.Name, o, err)
			}
		}
	}
	return p.result, p.mesh(in.Config)
}

// describe makes the Namespaces of the files known.
func (p *preview) describe(files []*manifest.File) {
	for _, o := range namespacesIn(files) {
		errs := wrongMeta(o.value["metadata"])
		for _, err := range errs {
			p.problem(o, nil, err.Field, err.Error())
		}
		if len(errs) > 0 {
			continue
		}
		meta, err := convert[metav1.ObjectMeta](o.value["metadata"])
		if err != nil {
			p.problem(o, nil, "", err.Error())
			continue
		}
		p.view.namespaces[o.name] = namespace{meta.Labels, meta.Annotations}
	}
}

// certificates makes the cert-manager Certificates of the files known, as if cert-manager had issued them.
func (p *preview) certificates() {
	for _, o := range p.objects {
		if o.group() != certmanagerv1.SchemeGroupVersion.Group || o.Kind != certmanagerv1.CertificateKind {
			continue
		}
		certificate, err := convert[certmanagerv1.Certificate](o.value)
		if err != nil {
			p.problem(o, nil, fieldIn(err), err.Error())
			continue
		}
		certificate.Namespace = o.namespace
		certificate.Status.Conditions = []certmanagerv1.CertificateCondition{{Type: certmanagerv1.CertificateConditionReady, Status: cmmeta.ConditionTrue}}
		p.view.certificates[o.namespace] = append(p.view.certificates[o.namespace], &certificate)
	}
}

// pod decides about the pod, or the pods of the workload, and rewrites it.
func (p *preview) pod(o object, w workload) error {
	template, ok := lookup(o.value, w.template).(map[string]any)
	if !ok {
		p.problem(o, w.template, "", fmt.Sprintf("a %s needs a pod template at %s", o.Kind, fieldOf(w.template)))
		return nil
	}
	if errs := wrongMeta(template["metadata"]); len(errs) > 0 {
		for _, err := range errs {
			p.problem(o, w.template, err.Field, err.Error())
		}
		return nil
	}
	submitted, err := submit(o, w, template)
	if err != nil {
		return err
	}
	pod, err := convert[corev1.Pod](submitted.pod)
	if err != nil {
		p.problem(o, w.template, fieldIn(err), err.Error())
		return nil
	}
	decision := p.injector.Inject(o.namespace, &pod)
	for _, warning := range decision.Warnings {
		p.result.Warnings = append(p.result.Warnings, o.finding(warning, "", w.template))
	}
	if len(decision.Warnings) > 0 && p.view.undescribed(o.namespace) {
		p.result.Warnings = append(p.result.Warnings, o.finding(fmt.Sprintf(
			"nothing describes the namespace %s, so it counts as one without labels and annotations: see --namespace-file", o.namespace), "", nil))
	}
	if !decision.Allowed {
		for _, problem := range decision.Problems {
			p.problem(o, w.template, problem.Err.Field, problem.Err.Error())
		}
		return nil
	}
	p.record(o, decision)
	if len(decision.Operations) == 0 {
		return nil
	}
	admitted, err := submitted.admit(decision)
	if err != nil {
		return err
	}
	return o.document.Rewrite(with(o.document.Value, slices.Concat(o.path, w.template), admitted))
}

// problem adds what is wrong with a field of the pod, or of the object where below is empty.
func (p *preview) problem(o object, below []any, field, message string) {
	p.result.Problems = append(p.result.Problems, o.finding(message, field, below))
}

// record notes what the pod was admitted with. Of two the one of the earlier document is older.
func (p *preview) record(o object, decision inject.Decision) {
	if decision.Reason == origination.ReasonInjected {
		p.view.admit(o.namespace, mesh.Request{Originations: decision.Originations, Settings: decision.Settings,
			Pod: o.String(), Since: time.Unix(int64(len(p.view.live[o.namespace])), 0).UTC()})
	}
}
