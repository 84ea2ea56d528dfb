package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

const (
	kyvernoNamespace = "kyverno"
	kyvernoService   = "kyverno-svc"
	kyvernoPort      = 9443

	admissionController  = "kyverno-admission-controller"
	backgroundController = "kyverno-background-controller"

	// The configurations that Kyverno writes: for its own policies, and by them.
	policyWebhook   = "kyverno-policy-mutating-webhook-cfg"
	resourceWebhook = "kyverno-resource-mutating-webhook-cfg"
)

// kyverno is an installed Kyverno. Its reports and cleanup controllers, which neither inject nor generate, do not run.
type kyverno struct {
	bed                   *bed.Bed
	admission, background *harness.Process
	policies              []*unstructured.Unstructured
}

// kyvernoValues are those of its chart. The background controller gets the right to generate Istio's objects. All else
// is the chart's default.
var kyvernoValues = map[string]any{
	"cleanupController": map[string]any{"enabled": false},
	"reportsController": map[string]any{"enabled": false},
	"backgroundController": map[string]any{"rbac": map[string]any{"clusterRole": map[string]any{
		"extraResources": []any{map[string]any{
			"apiGroups": []any{"networking.istio.io"},
			"resources": []any{"serviceentries", "destinationrules"},
			"verbs":     []any{"get", "list", "watch", "create", "update", "patch", "delete"},
		}},
	}}},
}

// startKyverno installs the chart of the directory and runs its controllers, each as a process with the arguments, the
// environment and the service account of its Deployment.
func startKyverno(ctx context.Context, b *bed.Bed, dir string) (*kyverno, error) {
	progress("Kyverno: CRDs and chart")
	deployments, err := installKyverno(ctx, b, dir)
	if err != nil {
		return nil, err
	}
	progress("Kyverno: admission controller and background controller")
	k := &kyverno{bed: b}
	address, err := b.NewAddress()
	if err != nil {
		return nil, err
	}
	k.admission, err = k.start(ctx, filepath.Join(dir, "kyverno"), deployments[admissionController], address,
		"--webhookServerHost="+address.String())
	if err != nil {
		return nil, err
	}
	if err := k.publish(ctx, address); err != nil {
		return nil, err
	}
	if address, err = b.NewAddress(); err != nil {
		return nil, err
	}
	k.background, err = k.start(ctx, filepath.Join(dir, "background-controller"), deployments[backgroundController],
		address)
	if err != nil {
		return nil, err
	}
	return k, k.wait(ctx)
}

// installKyverno applies Kyverno's CustomResourceDefinitions and chart. It returns the chart's Deployments by name.
func installKyverno(ctx context.Context, b *bed.Bed, dir string) (map[string]*appsv1.Deployment, error) {
	crds, err := harness.ReadObjects(filepath.Join(dir, "crds"))
	if err != nil {
		return nil, err
	}
	if err := b.InstallCRDs(ctx, crds); err != nil {
		return nil, err
	}
	release, err := b.RenderOtherChart("kyverno", kyvernoNamespace, filepath.Join(dir, "chart"), kyvernoValues)
	if err != nil {
		return nil, err
	}
	deployments := map[string]*appsv1.Deployment{}
	var applied []*unstructured.Unstructured
	for _, u := range release.Objects {
		switch u.GetKind() {
		case "CustomResourceDefinition": // they exist
			continue
		case "Deployment":
			d := &appsv1.Deployment{}
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, d); err != nil {
				return nil, err
			}
			deployments[d.Name] = d
			if d.Name != admissionController { // without which Kyverno takes itself for deleted
				continue
			}
		}
		applied = append(applied, u)
	}
	release.Objects = applied
	return deployments, b.Apply(ctx, release)
}

// start runs the container of a Deployment at an address.
func (k *kyverno) start(
	ctx context.Context, binary string, d *appsv1.Deployment, address netip.Addr, args ...string,
) (*harness.Process, error) {
	if d == nil {
		return nil, fmt.Errorf("the chart has no Deployment for %s", binary)
	}
	name, spec := d.Name, d.Spec.Template.Spec
	config, err := k.bed.ServiceAccountConfig(ctx, kyvernoNamespace, spec.ServiceAccountName)
	if err != nil {
		return nil, err
	}
	kubeconfig, err := k.bed.WriteKubeconfig(name, config)
	if err != nil {
		return nil, err
	}
	home := k.bed.Directory()
	env := []string{"HOME=" + home, "TMPDIR=" + home, "PATH=/usr/bin:/bin"}
	for _, e := range spec.Containers[0].Env {
		value := e.Value
		if e.ValueFrom != nil && e.ValueFrom.FieldRef != nil {
			value = map[string]string{
				"metadata.namespace": kyvernoNamespace,
				"metadata.name":      name + "-0",
			}[e.ValueFrom.FieldRef.FieldPath]
		}
		env = append(env, e.Name+"="+value)
	}
	p := &harness.Process{
		Name: name, Path: binary, Log: k.bed.LogPath(name), Env: env,
		Args: slices.Concat(spec.Containers[0].Args, []string{
			"--kubeconfig=" + kubeconfig,
			"--metricsHost=" + address.String(),
			"--controllerRuntimeMetricsAddress=" + netip.AddrPortFrom(address, 8080).String(),
		}, args),
	}
	if err := p.Start(); err != nil {
		return nil, err
	}
	k.bed.OnStop(func() error { defer p.Kill(); return p.Crashed() })
	return p, nil
}

// publish gives Kyverno's Service its endpoint.
func (k *kyverno) publish(ctx context.Context, address netip.Addr) error {
	return k.bed.Client.Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: kyvernoNamespace,
			Name:      kyvernoService,
			Labels:    map[string]string{discoveryv1.LabelServiceName: kyvernoService},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{address.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)},
		}},
		Ports: []discoveryv1.EndpointPort{{
			Name:     ptr.To("https"),
			Port:     ptr.To[int32](kyvernoPort),
			Protocol: ptr.To(corev1.ProtocolTCP),
		}},
	})
}

// wait waits until Kyverno has registered itself, which it does once it serves.
func (k *kyverno) wait(ctx context.Context) error {
	err := harness.Eventually(ctx, 3*time.Minute, "Kyverno to serve", func(ctx context.Context) error {
		if err := cmp.Or(k.admission.Crashed(), k.background.Crashed()); err != nil {
			return err
		}
		found := &registrationv1.MutatingWebhookConfiguration{}
		if err := k.bed.Client.Get(ctx, client.ObjectKey{Name: policyWebhook}, found); err != nil {
			return err
		}
		if len(found.Webhooks) == 0 || len(found.Webhooks[0].ClientConfig.CABundle) == 0 {
			return fmt.Errorf("%s has no webhook with a CA bundle", policyWebhook)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w%s", err, k.admission.Tail())
	}
	return nil
}

// apply applies policies and waits until the check of what they do returns nil.
func (k *kyverno) apply(ctx context.Context, what, policies string, check func(context.Context) error) error {
	objects, err := harness.ParseObjects([]byte(policies))
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", what, err, policies)
	}
	k.policies = append(k.policies, objects...)
	err = harness.Eventually(ctx, 2*time.Minute, what, func(ctx context.Context) error {
		// Kyverno's own webhook may not serve yet.
		if err := k.bed.ApplyObjects(ctx, "", objects...); err != nil {
			return err
		}
		return check(ctx)
	})
	if err != nil {
		return fmt.Errorf("%w; the policy is:\n%s", err, policies)
	}
	return nil
}

// removePolicies deletes all policies and waits until the API server does not call Kyverno for pods.
func (k *kyverno) removePolicies(ctx context.Context) error {
	if err := k.bed.DeleteObjects(ctx, "", k.policies...); err != nil {
		return err
	}
	k.policies = nil
	return harness.Eventually(ctx, time.Minute, "Kyverno to unregister", func(ctx context.Context) error {
		found := &registrationv1.MutatingWebhookConfiguration{}
		err := k.bed.Client.Get(ctx, client.ObjectKey{Name: resourceWebhook}, found)
		if err == nil && len(found.Webhooks) > 0 {
			err = fmt.Errorf("%s has %d webhooks", resourceWebhook, len(found.Webhooks))
		}
		return client.IgnoreNotFound(err)
	})
}
