package integration

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestGitOps applies the rendered chart as Argo CD and Flux do, again and again. What the replicas write stays, no
// object changes, so these tools see no drift, and what they do not track stays too.
func TestGitOps(t *testing.T) {
	c := start(t, setup{})
	ns := c.namespace("shop", nil, nil)
	c.admitted(pod(ns, "running", requesting()))
	c.waitForObjects(ns, 1, 1)
	objects := c.meshObjects()
	written := c.writtenByReplicas()
	for _, manager := range []string{"argocd-controller", "kustomize-controller"} {
		t.Run(manager, func(t *testing.T) {
			c := c.on(t)
			c.must(c.apply(manager, client.ForceOwnership))
			before := c.versions()
			c.must(c.apply(manager, client.ForceOwnership))
			for name, version := range c.versions() {
				if before[name] != version {
					t.Errorf("%s was at %s, and is at %s after it was applied again", name, before[name], version)
				}
			}
			if now := c.writtenByReplicas(); now != written {
				t.Errorf("the replicas wrote\n%s\nand there is\n%s", written, now)
			}
			c.admitted(pod(ns, "by-"+manager, requesting()))
		})
	}
	c.wantKept(objects)
}

// apply applies the objects of the release by server-side apply, as a manager of its own.
func (c *cluster) apply(manager string, opts ...client.ApplyOption) error {
	c.t.Helper()
	var errs []error
	for _, o := range c.release.Objects {
		u := c.inRelease(o)
		opts := append([]client.ApplyOption{client.FieldOwner(manager)}, opts...)
		errs = append(errs, c.Client.Apply(c.t.Context(), client.ApplyConfigurationFromUnstructured(u), opts...))
	}
	return errors.Join(errs...)
}

// inRelease returns a copy of a rendered object with its namespace.
func (c *cluster) inRelease(o *unstructured.Unstructured) *unstructured.Unstructured {
	c.t.Helper()
	u := o.DeepCopy()
	if namespaced, err := c.Client.IsObjectNamespaced(u); err != nil {
		c.t.Fatal(err)
	} else if namespaced && u.GetNamespace() == "" {
		u.SetNamespace(c.release.Namespace)
	}
	return u
}

// versions returns the resourceVersions of the release's objects.
func (c *cluster) versions() map[string]string {
	c.t.Helper()
	versions := map[string]string{}
	for _, o := range c.release.Objects {
		live := c.inRelease(o)
		c.must(c.Client.Get(c.t.Context(), client.ObjectKeyFromObject(live), live))
		versions[live.GetKind()+" "+live.GetName()] = live.GetResourceVersion()
	}
	return versions
}

// writtenByReplicas returns the caBundles and the serving certificate.
func (c *cluster) writtenByReplicas() string {
	c.t.Helper()
	var text strings.Builder
	configuration, err := c.configuration(c.t.Context())
	c.must(err)
	for _, w := range configuration.Webhooks {
		text.Write(w.ClientConfig.CABundle)
	}
	var secret corev1.Secret
	c.must(c.Client.Get(c.t.Context(), client.ObjectKey{
		Namespace: c.release.Namespace, Name: "redis-tls-webhook-cert",
	}, &secret))
	text.Write(secret.Data["tls.crt"])
	if !strings.Contains(text.String(), "BEGIN CERTIFICATE") || len(secret.Data["tls.crt"]) == 0 {
		c.t.Fatalf("the replicas wrote %q", text.String())
	}
	return text.String()
}

// TestAdmissionsEnforcer changes the namespace selectors as AKS does. Pods of other namespaces still get TLS, pods of
// an excluded one are refused. Helm 4 refuses the upgrade because of the conflict, and --force-conflicts makes it.
func TestAdmissionsEnforcer(t *testing.T) {
	c := start(t, setup{})
	ns := c.namespace("shop", nil, nil)
	excluded := c.namespace("agents", map[string]string{"control-plane": "true"}, nil)
	rendered, err := c.configuration(t.Context())
	c.must(err)
	enforced := rendered.DeepCopy()
	for i := range enforced.Webhooks {
		selector := enforced.Webhooks[i].NamespaceSelector
		selector.MatchExpressions = append(selector.MatchExpressions,
			metav1.LabelSelectorRequirement{
				Key: "control-plane", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"true"},
			},
			metav1.LabelSelectorRequirement{
				Key: "kubernetes.azure.com/managedby", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"aks"},
			})
	}
	c.must(c.Client.Update(t.Context(), enforced, client.FieldOwner("admissionsenforcer")))
	c.eventuallyRefused(func() *corev1.Pod { return pod(excluded, "p", requesting()) }, "redis-tls-guard")
	if got := vips(c.admitted(pod(ns, "p", requesting())), "redis.example.com"); len(got) != 1 {
		t.Errorf("VIPs %q", got)
	}

	err = c.apply("helm")
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `"admissionsenforcer"`) ||
		!strings.Contains(err.Error(), "namespaceSelector") {
		t.Errorf("an upgrade without --force-conflicts: %v", err)
	}
	c.must(c.apply("helm", client.ForceOwnership))
	now, err := c.configuration(t.Context())
	c.must(err)
	for i, w := range now.Webhooks {
		if len(w.NamespaceSelector.MatchExpressions) != len(rendered.Webhooks[i].NamespaceSelector.MatchExpressions) ||
			!slices.Equal(w.ClientConfig.CABundle, rendered.Webhooks[i].ClientConfig.CABundle) {
			t.Errorf("%s after the upgrade: %v", w.Name, w)
		}
	}
	c.eventually("the namespace to be served again", func(context.Context) error {
		_, _, err := c.create(pod(excluded, "p", requesting()), client.DryRunAll)
		return err
	})
}
