package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// example is one directory of examples/: a namespace, a Deployment and what it needs.
type example struct {
	name, namespace string
	first           []*unstructured.Unstructured // the namespace and all else but the Deployment
	deployment      *unstructured.Unstructured
	template        corev1.PodTemplateSpec
	before          *corev1.Pod // as it would be without us
}

func loadExample(name, dir string) (*example, error) {
	objects, err := harness.ReadObjects(dir)
	if err != nil {
		return nil, err
	}
	e := &example{name: name}
	for _, o := range objects {
		switch {
		case o.GetKind() == "Deployment" && e.deployment == nil:
			e.deployment, e.namespace = o, o.GetNamespace()
		case o.GetKind() == "Namespace":
			e.first = slices.Insert(e.first, 0, o)
		default:
			e.first = append(e.first, o)
		}
	}
	if e.deployment == nil || e.namespace == "" {
		return nil, fmt.Errorf("%s has no Deployment that names its namespace", dir)
	}
	d := &appsv1.Deployment{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(e.deployment.Object, d); err != nil {
		return nil, err
	}
	e.template = d.Spec.Template
	return e, nil
}

// podsBefore creates, as a dry run and before the webhook is there, the pods that the Deployments make.
func (d *demo) podsBefore(ctx context.Context) error {
	for _, e := range d.examples {
		if err := d.plane.ApplyObjects(ctx, e.namespace, e.first...); err != nil {
			return err
		}
		if err := d.plane.WaitForNamespace(ctx, e.namespace); err != nil {
			return err
		}
		e.before = &corev1.Pod{ObjectMeta: *e.template.ObjectMeta.DeepCopy(), Spec: *e.template.Spec.DeepCopy()}
		e.before.Namespace, e.before.GenerateName = e.namespace, e.deployment.GetName()+"-"
		if err := d.plane.Client.Create(ctx, e.before, client.DryRunAll); err != nil {
			return fmt.Errorf("example %s without the webhook: %w", e.name, err)
		}
	}
	return nil
}

func (d *demo) applyExamples(ctx context.Context) error {
	for _, e := range d.examples {
		if err := d.applyExample(ctx, e); err != nil {
			return fmt.Errorf("example %s: %w", e.name, err)
		}
	}
	return nil
}

// applyExample applies the Deployment and shows its pod, the objects, and how long they took.
func (d *demo) applyExample(ctx context.Context, e *example) error {
	d.title("examples/%s: kubectl apply", e.name)
	for _, key := range slices.Sorted(maps.Keys(e.template.Annotations)) {
		if strings.Contains(key, "redis-tls/") {
			d.fact("asks", "%s: %q", key, e.template.Annotations[key])
		}
	}
	seen, err := d.watchFirstUse(ctx, e)
	if err != nil {
		return err
	}
	d.text("")
	d.showPod(seen.pod)
	d.text("\n  The pod without and with us (%s):", seen.pod.Name)
	diff, err := podDiff(e.before, seen.pod)
	if err != nil {
		return err
	}
	d.diff(diff)
	if err := d.showObjects(seen); err != nil {
		return err
	}
	d.text("")
	d.fact("time", "%s from the first pod to the last of its objects", bold.Sprint(seen.objects().Round(100*time.Microsecond)))
	if seen.gated {
		d.fact("gate", "the pod dials an IP, so it waited at the gate redis-tls/first-use, for %s", bold.Sprint(seen.gate().Round(time.Millisecond)))
	}
	return nil
}

// showPod prints what the pod got.
func (d *demo) showPod(pod *corev1.Pod) {
	for _, v := range pod.Spec.Volumes {
		if strings.HasPrefix(v.Name, "redis-tls-") && v.Secret != nil {
			for _, i := range v.Secret.Items {
				d.fact("volume", "%s: of Secret %s the key %s alone, as %s", v.Name, v.Secret.SecretName, i.Key, i.Path)
			}
		}
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, m := range c.VolumeMounts {
			if strings.HasPrefix(m.Name, "redis-tls-") {
				d.fact("mount", "%s in %s, read-only: %t", m.MountPath, c.Name, m.ReadOnly)
			}
		}
	}
	for _, a := range pod.Spec.HostAliases {
		d.fact("VIP", "%s → %s", strings.Join(a.Hostnames, ", "), a.IP)
	}
	for _, key := range slices.Sorted(maps.Keys(pod.Labels)) {
		if strings.HasPrefix(key, "redis-tls/") {
			d.fact("label", "%s: %q", key, pod.Labels[key])
		}
	}
}

func (d *demo) showObjects(seen *firstUse) error {
	d.text("\n  The objects that appeared:")
	var objects []client.Object
	for _, e := range seen.entries {
		objects = append(objects, e)
	}
	for _, r := range seen.rules {
		objects = append(objects, r)
	}
	for _, o := range objects {
		document, err := objectYAML(o)
		if err != nil {
			return err
		}
		d.yaml(document)
		d.text("    ---")
	}
	return nil
}

// isOurs reports whether the object is one of the controller's.
func isOurs(o metav1.Object) bool {
	return o.GetLabels()["app.kubernetes.io/managed-by"] == "redis-tls"
}

// meshObjects are the two kinds that the controller makes.
func meshObjects() []client.ObjectList {
	return []client.ObjectList{&networkingv1.ServiceEntryList{}, &networkingv1.DestinationRuleList{}}
}
