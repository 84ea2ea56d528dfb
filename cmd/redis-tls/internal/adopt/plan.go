package adopt

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/preview"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Input is the manifests in which Find looks for hand-written objects.
type Input struct {
	Files, NamespaceFiles []*manifest.File
	// Namespace is the namespace of objects that do not set one.
	Namespace string
	Config    config.Config
	// Workloads are the chosen ones, as in "deploy/cart". Without them, Find decides.
	Workloads []string
	// Live is set if the manifests are those of a cluster: only workloads of Namespace change, and no pods.
	Live bool
}

// Plan is how annotations replace hand-written objects.
type Plan struct {
	// APIVersion is `redis-tls/v1`.
	APIVersion string `json:"apiVersion"`
	// Kind is `AdoptionPlan`.
	Kind string `json:"kind"`
	// Workloads are those that get annotations.
	Workloads []Workload `json:"workloads"`
	// Removals are the objects that go, in this order, when all pods of the workloads have been replaced.
	Removals []Removal `json:"removals"`
	// Left is what stays.
	Left []Left `json:"left"`
}

// Position is where an object is in the input.
type Position struct {
	// Namespace is the object's namespace.
	Namespace string `json:"namespace"`
	// Object is kind and name, as in "Deployment/cart".
	Object string `json:"object"`
	// File is the name of the file. For a cluster it is a name of the object.
	File string `json:"file"`
	// Line is the line in the file, from 1.
	Line int `json:"line"`

	object preview.Object
}

// Workload is a workload with the annotations that its pod template gets.
type Workload struct {
	Position
	// Annotations are what the pod template gets, by key.
	Annotations map[string]string `json:"annotations"`
	// Replaces are the objects that the annotations replace.
	Replaces []string `json:"replaces"`
	// Withdrawn are the parts of the pod template that go.
	Withdrawn []string `json:"withdrawn,omitempty"`
	// Safer is what the annotations do and the hand-written objects did not.
	Safer []string `json:"safer,omitempty"`
	// Check is what the user must compare before.
	Check []string `json:"check,omitempty"`
	// Conflicts are the refusals of a new pod while the hand-written objects exist. Then these must go first.
	Conflicts []string `json:"conflicts,omitempty"`

	template *template
	// annotated is the new template while the hand-written objects exist, and final the one afterwards. Until a rule is
	// gone, sidecars that it selects must have its files.
	annotated, final map[string]any
}

// Removal is an object that goes.
type Removal struct{ Position }

// Left is what stays, with the reason.
type Left struct {
	// Objects are the objects that stay.
	Objects []Position `json:"objects"`
	// Reason is the reason.
	Reason string `json:"reason"`
}

func leave(o preview.Object, reason string) Left { return Left{[]Position{positionOf(o)}, reason} }

func positionOf(o preview.Object) Position {
	return Position{o.Namespace, name(o), o.File.Name, o.Document.Line(o.Path...), o}
}

// Find returns the plan for the input. It changes no file. Each proposed workload is admitted by package preview,
// together with the objects that stay. What would be refused is left.
func Find(in Input) (*Plan, error) {
	objects := preview.Objects(in.Files, in.Namespace)
	read, unread := read(objects)
	f := finder{input: read, refused: map[string]string{}, secrets: map[string]bool{}}
	for _, o := range objects {
		if o.APIVersion == "v1" && (o.Kind == "Secret" || o.Kind == "ConfigMap") {
			f.secrets[o.Namespace+"/"+o.Name] = true
		}
	}
	for _, w := range in.Workloads {
		chosen, err := chosenName(w)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(f.templates, func(t *template) bool { return strings.ToLower(name(t.Object)) == chosen }) {
			return nil, fmt.Errorf("--workload must name a workload of the input, got %q", w)
		}
		f.chosen = append(f.chosen, chosen)
	}
	if in.Live {
		f.namespace = in.Namespace
		for _, t := range f.templates {
			if slices.Contains([]string{"Pod", "Job", "ReplicaSet"}, t.Kind) {
				f.refused[t.key()] = "the template of a " + t.Kind + " cannot change; create it again with annotations"
			}
		}
	}
	for {
		f.order, f.left = nil, slices.Clone(unread)
		f.find()
		plan := f.plan()
		refusals, err := plan.check(in, true)
		if err != nil {
			return nil, err
		}
		if len(refusals) == 0 {
			return plan, plan.conflicts(in)
		}
		for i, messages := range refusals {
			f.refused[plan.Workloads[i].template.key()] = strings.Join(messages, "\n")
		}
	}
}

// shortKinds are kubectl's names of the workloads' kinds.
var shortKinds = map[string]string{
	"deploy": "deployment", "deployments": "deployment", "sts": "statefulset", "statefulsets": "statefulset",
	"ds": "daemonset", "daemonsets": "daemonset", "cj": "cronjob", "cronjobs": "cronjob", "jobs": "job", "po": "pod",
	"pods": "pod", "rs": "replicaset",
}

// chosenName returns "kind/name" of an argument as kubectl reads it.
func chosenName(argument string) (string, error) {
	kind, object, found := strings.Cut(strings.ToLower(argument), "/")
	if !found || kind == "" || object == "" {
		return "", fmt.Errorf("--workload must be KIND/NAME, as in deploy/cart, got %q", argument)
	}
	kind, _, _ = strings.Cut(kind, ".")
	return cmp.Or(shortKinds[kind], kind) + "/" + object, nil
}

// plan returns the plan of the finder's requests and uses.
func (f *finder) plan() *Plan {
	p := &Plan{APIVersion: "redis-tls/v1", Kind: "AdoptionPlan", Workloads: []Workload{}, Removals: []Removal{}}
	for _, t := range f.templates {
		if requests := f.requests[t]; len(requests) > 0 {
			p.Workloads = append(p.Workloads, f.workload(t, requests))
		}
		if refusal := f.refused[t.key()]; refusal != "" && f.mentioned[t.key()] {
			for line := range strings.SplitSeq(refusal, "\n") {
				f.left = append(f.left, leave(t.Object, line))
			}
		}
	}
	for _, kind := range []string{"ServiceEntry", "VirtualService", "DestinationRule"} {
		for _, key := range f.order {
			if u := f.uses[key]; u.Kind == kind && u.adopted && len(u.blockers) == 0 {
				p.Removals = append(p.Removals, Removal{positionOf(u.Object)})
			}
		}
	}
	p.Left = append(append([]Left{}, f.left...), f.blocked()...)
	return p
}

// blocked returns the objects that stay, the objects of one reason together.
func (f *finder) blocked() (all []Left) {
	for _, key := range f.order {
		u := f.uses[key]
		for _, reason := range u.blockers {
			i := slices.IndexFunc(all, func(l Left) bool { return l.Reason == reason })
			if i < 0 {
				all = append(all, leave(u.Object, reason))
				continue
			}
			all[i].Objects = append(all[i].Objects, positionOf(u.Object))
		}
	}
	return all
}

// workload returns the change of a workload.
func (f *finder) workload(t *template, requests []*request) Workload {
	w := Workload{Position: positionOf(t.Object), Annotations: map[string]string{}, template: t}
	used := map[string]bool{}
	for _, r := range requests {
		instance := instanceOf(t, r, used)
		for key, value := range r.settings {
			if instance != "" {
				w.Annotations[origination.KeyOf(instance, key)] = value
			}
		}
		for _, o := range append(slices.Clone(r.entries), r.rule.Object) {
			if !slices.Contains(w.Replaces, name(o)) {
				w.Replaces = append(w.Replaces, name(o))
			}
		}
		w.Safer, w.Check = join(w.Safer, r.safer), join(w.Check, r.check)
	}
	w.annotated = f.annotate(&w, t, requests)
	w.final = f.withdraw(&w, t, requests)
	return w
}

// join appends the lines that are new.
func join(lines, further []string) []string {
	for _, line := range further {
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// instanceOf returns an instance for a request: the default one if it is free, else one named after the rule. It
// returns "" if the pod requests the host already.
func instanceOf(t *template, r *request, used map[string]bool) string {
	for key, value := range t.pod.Annotations {
		instance, _, ours := strings.Cut("."+key, ".redis-tls/")
		if !ours {
			continue
		}
		if strings.HasSuffix(key, "redis-tls/host") && slices.Contains(r.hosts, value) ||
			strings.HasSuffix(key, "redis-tls/addresses") && value == r.settings["addresses"] {
			return ""
		}
		used[cmp.Or(strings.TrimPrefix(instance, "."), origination.DefaultInstance)] = true
	}
	name := origination.DefaultInstance
	for n := 1; used[name]; n++ {
		name = strings.Trim(strings.ReplaceAll(r.rule.Name, ".", "-")[:min(len(r.rule.Name), 58)], "-")
		if n > 1 {
			name = fmt.Sprintf("%s-%d", name, n)
		}
	}
	used[name] = true
	return name
}
