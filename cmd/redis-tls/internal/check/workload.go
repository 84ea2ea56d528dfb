package check

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/live"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// The sources of a workload.
const (
	sourcePodsOfWorkload Source = "the pods of the namespace"
	sourceNamespace      Source = "the labels of the namespace"
	sourceObjects        Source = "the Istio objects of the namespace"
	sourceFiles          Source = "the Secrets and ConfigMaps with TLS files"
	sourceSidecar        Source = "the sidecar by pods/exec"
)

// Workload has the facts of a workload.
type Workload struct {
	*live.Workload
	// NamespaceLabels are those of its namespace.
	NamespaceLabels map[string]string
	// Decisions are those that the webhook would make about the pods of its templates now.
	Decisions []Decision
	// Running are its live pods, without those that end.
	Running []Pod
	// Files are the Secrets and ConfigMaps with TLS files.
	Files []File
	// States are the objects that its pods need, and Refused the requests that get none.
	States  []mesh.ObjectState
	Refused []mesh.Refusal
	// Proxies are the sidecars that were read, by the name of their pod.
	Proxies map[string]*Envoy

	unread map[Source]string
}

// Decision is the decision of the webhook about a pod template.
type Decision struct {
	inject.Decision
	// Path is that of the template in the workload; empty for a pod.
	Path string
	Pod  *corev1.Pod
}

// Pod is a live pod with the request that it was admitted with.
type Pod struct {
	*corev1.Pod
	Request  mesh.Request
	Admitted bool // it has the label of admitted pods
	// Err is why its request cannot be resolved.
	Err error
}

// Name returns the workload as in "shop/deployment/cart".
func (w *Workload) Name() string { return w.Namespace + "/" + w.String() }

// reason returns why a source of the cluster or of the workload could not be read, or "".
func (in *Input) reason(s Source) string {
	if in.Workload != nil {
		if reason := in.Workload.unread[s]; reason != "" {
			return reason
		}
	}
	return in.Facts.reason(s)
}

// Requests reports whether the workload has to do with redis-tls: a template requests or inherits TLS, or a live pod
// was admitted with it.
func (w *Workload) Requests() bool {
	return slices.ContainsFunc(w.Decisions, func(d Decision) bool { return !skips(d) }) ||
		slices.ContainsFunc(w.Running, func(p Pod) bool { return p.Admitted })
}

func skips(d Decision) bool {
	return d.Reason == origination.ReasonNotRequested || d.Reason == origination.ReasonOptedOut
}

// originations returns those of the live pods and of the templates, one for each key.
func (w *Workload) originations() []origination.Origination {
	var all []origination.Origination
	keys := map[string]bool{}
	add := func(more []origination.Origination) {
		for _, o := range more {
			if !keys[o.Key] {
				keys[o.Key] = true
				all = append(all, o)
			}
		}
	}
	for _, p := range w.Running {
		add(p.Request.Originations)
	}
	for _, d := range w.Decisions {
		add(d.Originations)
	}
	return all
}

// WorkloadReader reads the facts of workloads.
type WorkloadReader struct {
	Cluster *live.Cluster
	// Sidecars reads the sidecar of a pod.
	Sidecars SidecarReader
	// Selection are the checks that will run. What only other checks need is not read.
	Selection Selection
	// OnePod reads the sidecar of one pod of each workload only.
	OnePod bool
	// Progress is called with the number of workloads that were read.
	Progress func(done, of int)

	mu    sync.Mutex
	files map[string]File // by namespace, kind and name
}

// concurrently is the number of workloads that are read at once. Most of the time is that of pods/exec.
const concurrently = 10

// Read reads the workloads, in their order.
func (r *WorkloadReader) Read(ctx context.Context, workloads []*live.Workload) ([]*Workload, error) {
	all := make([]*Workload, len(workloads))
	errs := make([]error, len(workloads))
	slots := make(chan struct{}, concurrently)
	var group sync.WaitGroup
	done := 0
	for i, w := range workloads {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			all[i], errs[i] = r.read(ctx, w)
			r.mu.Lock()
			defer r.mu.Unlock()
			if done++; r.Progress != nil {
				r.Progress(done, len(workloads))
			}
		})
	}
	group.Wait()
	return all, errors.Join(errs...)
}

func (r *WorkloadReader) read(ctx context.Context, of *live.Workload) (*Workload, error) {
	c := r.Cluster
	labels, _, _ := c.Namespace(of.Namespace)
	w := &Workload{Workload: of, NamespaceLabels: labels, unread: map[Source]string{}, Proxies: map[string]*Envoy{}}
	r.noteDenied(w)
	injector := &inject.Injector{
		Config: c.Config, View: c, Now: func() time.Time { return c.At }, Offline: c.Offline(), Partial: c.Partial,
	}
	for _, t := range of.Templates {
		pod := t.Pod
		if t.Path == "" { // the pod itself, as it was before its admission
			pod = pod.DeepCopy()
			maps.DeleteFunc(pod.Labels, func(key, _ string) bool {
				_, written := origination.WebhookLabels(pod.Labels)[key]
				return written
			})
		}
		w.Decisions = append(w.Decisions, Decision{injector.Inject(of.Namespace, pod), t.Path, t.Pod})
	}
	for _, p := range of.Pods {
		if p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		request, admitted, err := c.Recorded(p)
		w.Running = append(w.Running, Pod{p, request, admitted, err})
	}
	if !w.Requests() {
		return w, nil
	}
	r.states(w)
	w.unread[sourceSidecar] = "not selected"
	if r.Selection.ReadsSidecars() {
		r.readSidecars(ctx, w)
	}
	if !r.Selection.ReadsFiles() {
		w.unread[sourceFiles] = "not selected"
		return w, nil
	}
	return w, r.readFiles(ctx, w)
}

// noteDenied notes the lists that the user may not read.
func (r *WorkloadReader) noteDenied(w *Workload) {
	if _, known := r.Cluster.Namespaces[w.Namespace]; !known {
		w.unread[sourceNamespace] = "not allowed to get namespace " + w.Namespace
	}
	for source, resources := range map[Source][]string{
		sourcePodsOfWorkload: {"/pods"},
		sourceObjects: {
			"networking.istio.io/serviceentries", "networking.istio.io/destinationrules",
			"networking.istio.io/virtualservices", "networking.istio.io/sidecars", "security.istio.io/peerauthentications",
		},
	} {
		for _, d := range r.Cluster.Denied() {
			if d.Verb == "list" && d.Namespace == w.Namespace && slices.Contains(resources, d.Group+"/"+d.Resource) {
				w.unread[source] = "not allowed to " + d.String()
			}
		}
	}
}

// states compares the objects of each request of a live pod.
func (r *WorkloadReader) states(w *Workload) {
	snap := r.Cluster.Snapshot(w.Namespace)
	seen := map[string]bool{}
	for _, p := range w.Running {
		states, refused := mesh.States(p.Request, snap, r.Cluster.Config, r.Cluster.At)
		for _, s := range states {
			if id := fmt.Sprintf("%s/%s", kindOf(s.Desired), s.Desired.GetName()); !seen[id] {
				seen[id] = true
				w.States = append(w.States, s)
			}
		}
		for _, f := range refused {
			if !slices.ContainsFunc(w.Refused, func(other mesh.Refusal) bool { return other.Claim.Key == f.Claim.Key }) {
				w.Refused = append(w.Refused, f)
			}
		}
	}
}

func kindOf(o mesh.Object) string { return o.GetObjectKind().GroupVersionKind().Kind }
