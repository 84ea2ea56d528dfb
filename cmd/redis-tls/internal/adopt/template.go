package adopt

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/preview"
	"github.com/redis-tls/redis-tls/patches"
)

// annotate returns the template with the annotations, and without the host aliases that they replace.
func (f *finder) annotate(w *Workload, t *template, requests []*request) map[string]any {
	value, _ := copied(preview.Lookup(t.Value, t.path...)).(map[string]any)
	annotations := below(below(value, "metadata"), "annotations")
	for key, annotation := range w.Annotations {
		annotations[key] = annotation
	}
	spec, _ := value["spec"].(map[string]any)
	for _, r := range requests {
		for _, ip := range slices.Sorted(maps.Keys(r.aliases)) {
			w.Withdrawn = append(w.Withdrawn, fmt.Sprintf("host alias %s for %s", ip, strings.Join(r.aliases[ip], ", ")))
			filter(spec, "hostAliases", func(alias map[string]any) bool { return alias["ip"] == ip })
		}
	}
	return value
}

// withdraw returns the annotated template without the volumes that only the rules of the requests read.
func (f *finder) withdraw(w *Workload, t *template, requests []*request) map[string]any {
	value := copied(w.annotated).(map[string]any)
	annotations := below(below(value, "metadata"), "annotations")
	gone := f.volumesOf(t, requests)
	for _, key := range withoutEntries(annotations, func(e patches.Entry) bool { return gone[e.Name] }) {
		delete(annotations, key)
	}
	for _, volume := range slices.Sorted(maps.Keys(gone)) {
		w.Withdrawn = append(w.Withdrawn, "volume "+volume+" of "+userVolume+" and its mount")
	}
	return value
}

// below returns the mapping at a key, which it creates.
func below(parent map[string]any, key string) map[string]any {
	mapping, _ := parent[key].(map[string]any)
	if mapping == nil {
		mapping = map[string]any{}
		parent[key] = mapping
	}
	return mapping
}

// volumesOf returns the volumes of Istio's annotations that only rules of the requests read.
func (f *finder) volumesOf(t *template, requests []*request) map[string]bool {
	gone := map[string]bool{}
	for _, r := range requests {
		for _, s := range r.sources {
			if !s.inline {
				gone[s.volume] = true
			}
		}
	}
	for _, rule := range f.rules {
		adopted := slices.ContainsFunc(requests, func(r *request) bool { return keyOf(r.rule.Object) == keyOf(rule.Object) })
		goes := adopted && len(f.uses[keyOf(rule.Object)].blockers) == 0
		if goes || !exported(rule.typed, t.Namespace) || !selects(rule.typed, t) {
			continue
		}
		for _, file := range filesOf(rule.typed) {
			if s, _ := t.source(file); s != nil { // the sidecar drops connections if a rule's file is missing
				delete(gone, s.volume)
			}
		}
	}
	return gone
}
