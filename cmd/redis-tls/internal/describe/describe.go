package describe

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/live"
	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/inject"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Input is what to describe.
type Input struct {
	Cluster   *live.Cluster
	Workloads []*live.Workload
	// Secrets allows that the named Secrets are read.
	Secrets bool
}

// run is one run over an input.
type run struct {
	Input
	injector inject.Injector
	events   map[string][]eventsv1.Event // by namespace
}

// Run describes the workloads. An error means that the API server failed.
func Run(ctx context.Context, in Input) (*Report, error) {
	c := in.Cluster
	r := run{Input: in, events: map[string][]eventsv1.Event{}, injector: inject.Injector{
		Config:  c.Config,
		View:    c,
		Now:     func() time.Time { return c.At },
		Offline: c.Offline(),
		Partial: c.Partial,
	}}
	report := &Report{APIVersion: "redis-tls/v1", Kind: "DescribeReport", Webhook: r.webhook(), Items: []Item{}}
	for _, w := range in.Workloads {
		for _, template := range w.Templates {
			item, err := r.item(ctx, w, template)
			if err != nil {
				return nil, err
			}
			report.Items = append(report.Items, item)
		}
	}
	report.Notes, report.Denied = r.notes(), c.Denied()
	return report, nil
}

// item describes a pod template and the pods of its workload.
func (r *run) item(ctx context.Context, w *live.Workload, template live.Template) (Item, error) {
	labels, annotations, _ := r.Cluster.Namespace(w.Namespace)
	decision := r.injector.Inject(w.Namespace, template.Pod)
	settings := annotation.Effective(annotation.Input{
		Namespace:            w.Namespace,
		NamespaceLabels:      labels,
		NamespaceAnnotations: annotations,
		Labels:               template.Pod.Labels,
		Annotations:          template.Pod.Annotations,
		ServiceAccount:       template.Pod.Spec.ServiceAccountName,
	}, r.Cluster.Config)
	item := Item{
		Object:    w.String(),
		Namespace: w.Namespace,
		Injection: labels[origination.LabelNamespace],
		Decision:  decisionOf(decision),
		Settings:  settingsOf(settings, decision.Originations),
		Warnings:  decision.Warnings,
	}
	if r.isUnread(w.Namespace) {
		item.Decision.Meaning = "As far as your rights show: " + item.Decision.Meaning
	}
	if r.webhook() == webhookMissing {
		item.Decision.Meaning = "No webhook is installed, so a new pod is not changed. With it: " + item.Decision.Meaning
	}
	if len(w.Templates) > 1 {
		item.Template = template.Path
	}
	if item.Decision.Outcome == string(origination.OutcomeTolerated) {
		item.Warnings = withoutProblems(decision)
	}
	for _, applied := range r.injector.Policy(w.Namespace).Applied {
		item.Policies = append(item.Policies, applied.Path)
	}
	for _, p := range decision.Problems {
		item.Problems = append(item.Problems, problemOf(p))
	}
	for i := range decision.Originations {
		item.Connections = append(item.Connections, connectionOf(&decision.Originations[i]))
	}
	objects := r.objects(&item, w.Namespace, decision, r.pods(&item, w, decision, settings))
	var err error
	if item.Files, err = r.files(ctx, w.Namespace, decision.Originations); err != nil {
		return item, err
	}
	item.Events, err = r.eventsOf(ctx, w, objects)
	return item, err
}

// withoutProblems returns the warnings of a tolerated pod that are not its problems.
func withoutProblems(d inject.Decision) []string {
	var warnings []string
	for _, warning := range d.Warnings {
		if !slices.ContainsFunc(d.Problems, func(p origination.Problem) bool {
			return strings.HasSuffix(warning, p.Err.Error())
		}) {
			warnings = append(warnings, warning)
		}
	}
	return warnings
}

func decisionOf(d inject.Decision) Decision {
	decision := Decision{Outcome: string(d.Outcome()), Reason: string(d.Reason)}
	for _, info := range origination.Reasons() {
		if info.Reason == d.Reason {
			decision.Meaning = strings.ReplaceAll(info.Means, "`", "")
		}
	}
	for _, operation := range d.Operations {
		added := operation.Operation == "add"
		decision.Gated = decision.Gated || added && strings.HasPrefix(operation.Path, "/spec/schedulingGates")
	}
	return decision
}

func settingsOf(settings []annotation.Setting, originations []origination.Origination) []Setting {
	all := slices.Clone(settings)
	for i := range originations {
		all = append(all, annotation.DefaultsOf(&originations[i], settings)...)
	}
	slices.SortStableFunc(all, func(a, b annotation.Setting) int { // keys of the whole pod are last
		return cmp.Or(cmp.Compare(boolean(a.Instance == ""), boolean(b.Instance == "")), cmp.Compare(a.Instance, b.Instance))
	})
	var out []Setting
	for _, s := range all {
		out = append(out, Setting{Key: s.Key, Value: s.Value, Source: string(s.Source)})
	}
	return out
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

func problemOf(p origination.Problem) Problem {
	return Problem{Reason: string(p.Reason), Path: p.Err.Field, Message: p.Err.Error()}
}

func connectionOf(o *origination.Origination) Connection {
	c := Connection{Instances: o.Instances, PassthroughPorts: o.Passthrough, Key: o.Key}
	for _, name := range o.Names() {
		n := Name{Host: name.Host, Aliases: name.Aliases}
		for _, vip := range name.VIPs {
			n.VIPs = append(n.VIPs, vip.String())
		}
		c.Names = append(c.Names, n)
	}
	if o.InMesh() {
		c.Names = []Name{{Host: o.Host}}
	}
	for _, address := range o.DialledAddresses() {
		c.Addresses = append(c.Addresses, origination.AddressText(address))
	}
	for _, port := range o.Ports {
		c.Ports = append(c.Ports, Port{Port: port.Number, TargetPort: port.Target})
	}
	return c
}

// eventsOf returns the Events about the workload, its pods, or one of the mesh objects.
func (r *run) eventsOf(ctx context.Context, w *live.Workload, objects map[objectName]bool) ([]Event, error) {
	if r.Cluster.Offline() {
		return nil, nil
	}
	events, read := r.events[w.Namespace]
	if !read {
		var err error
		if events, err = r.Cluster.Events(ctx, w.Namespace); err != nil {
			return nil, fmt.Errorf("listing Events in namespace %s: %w", w.Namespace, err)
		}
		r.events[w.Namespace] = events
	}
	var out []Event
	for i := range events {
		e := &events[i]
		about := func(reference *corev1.ObjectReference) bool {
			return reference != nil && objects[objectName{reference.Kind, reference.Name}]
		}
		if !r.Cluster.Concerns(ctx, w, &e.Regarding) && !r.Cluster.Concerns(ctx, w, e.Related) &&
			!about(&e.Regarding) {
			continue
		}
		out = append(out, Event{
			Type:     e.Type,
			Reason:   e.Reason,
			LastSeen: live.LastSeen(e).Time,
			Object:   e.Regarding.Kind + "/" + e.Regarding.Name,
			Message:  e.Note,
		})
	}
	return out, nil
}
