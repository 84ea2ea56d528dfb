package adopt

import (
	"slices"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/preview"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Apply changes the files: the pod templates, then the objects that go. Comments and the order of keys stay.
func (p *Plan) Apply() error {
	if err := p.applyWorkloads(func(w Workload) map[string]any { return w.final }); err != nil {
		return err
	}
	for _, r := range p.Removals {
		o := r.object
		if len(o.Path) == 0 {
			o.File.Remove(o.Document)
			continue
		}
		value := withoutObject(copied(o.Document.Value), keyOf(o))
		if err := o.Document.Rewrite(value); err != nil {
			return &manifest.Error{File: o.File.Name, Line: r.Line, Err: err}
		}
	}
	return nil
}

// Annotate is the part of Apply that leaves no gap while pods of the old templates run: it adds the annotations, and
// keeps the objects and the volumes that they need.
func (p *Plan) Annotate() error {
	return p.applyWorkloads(func(w Workload) map[string]any { return w.annotated })
}

// applyWorkloads changes the pod templates.
func (p *Plan) applyWorkloads(template func(Workload) map[string]any) error {
	for _, w := range p.Workloads {
		o := w.object
		value := preview.With(o.Document.Value, slices.Concat(o.Path, w.template.path), template(w))
		if err := o.Document.Rewrite(value); err != nil {
			return &manifest.Error{File: o.File.Name, Line: w.Line, Err: err}
		}
	}
	return nil
}

// withoutObject removes an object from a List, at any depth.
func withoutObject(value any, key string) any {
	list, _ := value.(map[string]any)
	items, _ := list["items"].([]any)
	kept := []any{}
	for _, item := range items {
		o, _ := item.(map[string]any)
		kind, _ := o["kind"].(string)
		name, _ := preview.Lookup(o, "metadata", "name").(string)
		namespace, _ := preview.Lookup(o, "metadata", "namespace").(string)
		if _, nested := o["items"].([]any); nested {
			item = withoutObject(item, key)
		}
		if key != kind+"/"+namespace+"/"+name && !(namespace == "" && matchesWithoutNamespace(key, kind, name)) {
			kept = append(kept, item)
		}
	}
	list["items"] = kept
	return list
}

func matchesWithoutNamespace(key, kind, name string) bool {
	return len(key) > len(kind)+len(name)+1 && key[:len(kind)+1] == kind+"/" && key[len(key)-len(name)-1:] == "/"+name
}

// state is the content of files.
type state struct {
	documents [][]*manifest.Document
	values    []manifest.Document
}

func save(files []*manifest.File) (s state) {
	for _, file := range files {
		s.documents = append(s.documents, slices.Clone(file.Documents))
		for _, d := range file.Documents {
			s.values = append(s.values, *d)
		}
	}
	return s
}

func (s state) restore(files []*manifest.File) {
	n := 0
	for i, file := range files {
		file.Documents = s.documents[i]
		for _, d := range file.Documents {
			*d = s.values[n]
			n++
		}
	}
}

// check returns the refusals of the changed workloads, by their index, without changing the files. If final is false,
// the hand-written objects still exist.
func (p *Plan) check(in Input, final bool) (map[int][]string, error) {
	before := save(in.Files)
	defer before.restore(in.Files)
	apply := p.Annotate
	if final {
		apply = p.Apply
	}
	if err := apply(); err != nil {
		return nil, err
	}
	result, err := preview.Run(preview.Input{
		Files: in.Files, NamespaceFiles: in.NamespaceFiles, Namespace: in.Namespace, Config: in.Config,
	})
	if err != nil {
		return nil, err
	}
	refusals := map[int][]string{}
	for i, w := range p.Workloads {
		for _, finding := range result.Findings {
			if finding.Namespace != w.Namespace || finding.Object != w.Object {
				continue
			}
			switch {
			case finding.Severity == preview.Problem && (final || finding.Reason == string(origination.ReasonUnmanagedObject)):
				refusals[i] = append(refusals[i], finding.Message)
			case finding.Severity == preview.Warning && final && finding.Reason != preview.ReasonUnreadKey:
				p.Workloads[i].Check = join(p.Workloads[i].Check, []string{finding.Message})
			}
		}
	}
	return refusals, nil
}

// conflicts writes down the refusals while the hand-written objects still exist.
func (p *Plan) conflicts(in Input) error {
	refusals, err := p.check(in, false)
	for i, messages := range refusals {
		p.Workloads[i].Conflicts = messages
	}
	return err
}
