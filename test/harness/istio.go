package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// InstallIstioCRDs applies the CustomResourceDefinitions of the Istio release that go.mod requires, and
// waits until they are served. There is no Istio behind them.
func (c *ControlPlane) InstallIstioCRDs(ctx context.Context) error {
	crds, err := c.istioCRDs(ctx)
	if err != nil {
		return err
	}
	return c.InstallCRDs(ctx, crds)
}

// InstallCRDs applies CustomResourceDefinitions, and waits until they are served.
func (c *ControlPlane) InstallCRDs(ctx context.Context, crds []*unstructured.Unstructured) error {
	if err := c.ApplyObjects(ctx, "", crds...); err != nil {
		return err
	}
	for _, u := range crds {
		what := "the CustomResourceDefinition " + u.GetName() + " to be served"
		if err := Eventually(ctx, startTimeout, what, func(ctx context.Context) error {
			return c.served(ctx, u.GetName())
		}); err != nil {
			return err
		}
	}
	return nil
}

const (
	// removal is the time limit for the deletion of the CustomResourceDefinitions.
	removal = time.Minute
	// nudgeAfter is how long one may take before crdGone changes it.
	nudgeAfter = 3 * time.Second
)

// RemoveIstioCRDs deletes them with all of their objects, and waits until they are deleted.
func (c *ControlPlane) RemoveIstioCRDs(ctx context.Context) error {
	crds, err := c.istioCRDs(ctx)
	if err != nil {
		return err
	}
	if err := c.DeleteObjects(ctx, "", crds...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, removal)
	defer cancel()
	for _, u := range crds {
		if err := c.crdGone(ctx, u.GetName()); err != nil {
			return err
		}
	}
	return nil
}

// crdGone waits until a CustomResourceDefinition is deleted, and changes it from time to time. If the status changes
// during the work of kube-apiserver's finalizer, the finalizer drops it. It returns to it if anything but the condition
// Terminating changes, or at the next resync after five minutes (apiextensions-apiserver,
// pkg/controller/finalizer/crd_finalizer.go: sync, updateCustomResourceDefinition).
func (c *ControlPlane) crdGone(ctx context.Context, name string) error {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	for nudge := 1; ; nudge++ {
		err := Eventually(ctx, nudgeAfter, name+" to be gone", func(ctx context.Context) error {
			err := c.Client.Get(ctx, client.ObjectKey{Name: name}, crd)
			if err == nil {
				return fmt.Errorf("its conditions are %v", crd.Status.Conditions)
			}
			return client.IgnoreNotFound(err)
		})
		if err == nil || ctx.Err() != nil {
			return err
		}
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"test/nudge":"%d"}}}`, nudge)
		if err := c.Client.Patch(ctx, crd, client.RawPatch(types.MergePatchType, patch)); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("changing %s: %w", name, err)
		}
	}
}

func (c *ControlPlane) served(ctx context.Context, name string) error {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := c.Client.Get(ctx, client.ObjectKey{Name: name}, crd); err != nil {
		return err
	}
	for _, condition := range crd.Status.Conditions {
		if condition.Type == apiextensionsv1.Established && condition.Status == apiextensionsv1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("conditions are %v", crd.Status.Conditions)
}

// istioCRDs reads them from the module istio.io/api.
func (c *ControlPlane) istioCRDs(ctx context.Context) ([]*unstructured.Unstructured, error) {
	dir, err := c.moduleDirectory(ctx, "istio.io/api")
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(filepath.Join(dir, "kubernetes", "customresourcedefinitions.gen.yaml"))
	if err != nil {
		return nil, fmt.Errorf("reading Istio's CustomResourceDefinitions: %w", err)
	}
	return ParseObjects(content)
}

// moduleDirectory returns the directory of the module in go.mod's version.
func (c *ControlPlane) moduleDirectory(ctx context.Context, module string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module)
	cmd.Dir = c.root
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("finding module %s: %w: %s", module, err, errs.String())
	}
	return strings.TrimSpace(string(out)), nil
}
