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

// example is one directory of examples/: a namespace, a Deployment, and objects that the Deployment needs.
type example struct {
	name, namespace string
	first           []*unstructured.Unstructured // the namespace and the other objects, without the Deployment
	deployment      *unstructured.Unstructured
	template        corev1.PodTemplateSpec
	before          *corev1.Pod // without redis-tls
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
		return nil, fmt.Errorf("%s: must have a Deployment with a namespace", dir)
	}
	d := &appsv1.Deployment{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(e.deployment.Object, d); err != nil {
		return nil, err
	}
	e.template = d.Spec.Template
	return e, nil
}

// podsBefore creates the pods of the Deployments in a dry run, before the webhook exists.
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

// applyExample applies the Deployment. It shows the pod, the objects, and how long they took.
func (d *demo) applyExample(ctx context.Context, e *example) error {
	d.title("examples/%s: kubectl apply", e.name)
	for _, key := range slices.Sorted(maps.Keys(e.template.Annotations)) {
		if strings.Contains(key, "redis-tls/") {
			d.fact("requests", "%s: %q", key, e.template.Annotations[key])
		}
	}
	seen, err := d.watchFirstUse(ctx, e)
	if err != nil {
		return err
	}
	d.text("")
	d.showPod(seen.pod)
	d.text("\n  The pod without and with redis-tls (%s):", seen.pod.Name)
	diff, err := podDiff(e.before, seen.pod)
	if err != nil {
		return err
	}
	d.diff(diff)
	if err := d.showObjects(seen); err != nil {
		return err
	}
	d.text("")
	objects := seen.objects().Round(100 * time.Microsecond)
	d.fact("time", "%s from the first pod to the last of its objects", bold.Sprint(objects))
	if seen.gated {
		held := bold.Sprint(seen.gate().Round(time.Millisecond))
		d.fact("gate", "the app dials an IP, so the scheduling gate redis-tls/first-use held the pod for %s", held)
	}
	return nil
}

// showPod prints what redis-tls added to the pod.
func (d *demo) showPod(pod *corev1.Pod) {
	for _, v := range pod.Spec.Volumes {
		if strings.HasPrefix(v.Name, "redis-tls-") && v.Secret != nil {
			for _, i := range v.Secret.Items {
				d.fact("volume", "%s: key %[3]s of Secret %[2]s, as %[4]s", v.Name, v.Secret.SecretName, i.Key, i.Path)
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
	key := ""
	for label := range seen.pod.Labels {
		if suffix, found := strings.CutPrefix(label, "redis-tls/to-"); found {
			key = suffix
		}
	}
	d.text("\n  Where the connections go:")
	if err := d.showObject(seen.entry); err != nil {
		return err
	}
	byName := func(a, b *networkingv1.DestinationRule) int { return strings.Compare(b.Name, a.Name) }
	slices.SortFunc(seen.rules, byName) // the closed ones last
	for _, rule := range seen.rules {
		switch {
		case rule.Spec.WorkloadSelector != nil:
			d.text("\n  TLS, for pods with the label of key %s:", key)
		case strings.Contains(rule.Spec.Host, key):
			d.text("\n  For all other pods that resolve the host to the VIP, a closed rule, with a name of no certificate:")
		default:
			d.text("\n  The same for all VIPs of the namespace, if both rules of a key are missing:")
		}
		if err := d.showObject(rule); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) showObject(o client.Object) error {
	document, err := objectYAML(o)
	if err != nil {
		return err
	}
	d.yaml(document)
	return nil
}

// isManaged reports whether redis-tls manages the object.
func isManaged(o metav1.Object) bool {
	return o.GetLabels()["app.kubernetes.io/managed-by"] == "redis-tls"
}

// meshObjects are lists of the kinds that the controller creates for the examples.
func meshObjects() []client.ObjectList {
	return []client.ObjectList{&networkingv1.ServiceEntryList{}, &networkingv1.DestinationRuleList{}}
}
