package harness

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Uninstall does what `helm uninstall` does: it runs the hooks before a deletion, then deletes the release's objects.
// Replicas are processes here, which the caller stops.
func (c *ControlPlane) Uninstall(ctx context.Context, r *Release, o WebhookOptions) error {
	if err := c.RunHooks(ctx, r, "pre-delete", o); err != nil {
		return err
	}
	return c.Delete(ctx, r)
}

// RunHooks does what Helm does at an event such as "pre-delete": it applies the hooks by weight, and deletes them if
// all have succeeded. No kubelet runs a Job, so its container runs here, with its service account, until it ends. The
// Job itself is created as a dry run, to check that the API server accepts it.
func (c *ControlPlane) RunHooks(ctx context.Context, r *Release, event string, o WebhookOptions) error {
	o, err := c.built(ctx, o)
	if err != nil {
		return err
	}
	var made []*unstructured.Unstructured
	for _, hook := range r.Hooks {
		if !slices.Contains(strings.Split(hook.GetAnnotations()["helm.sh/hook"], ","), event) {
			continue
		}
		if hook.GetKind() == "Job" {
			err = c.runJob(ctx, r, hook, o)
		} else {
			err = c.ApplyObjects(ctx, r.Namespace, hook)
		}
		if err != nil {
			return fmt.Errorf("hook %s: %w", event, err)
		}
		made = append(made, hook)
	}
	if len(made) == 0 {
		return fmt.Errorf("the chart has no hook %s", event)
	}
	slices.Reverse(made)
	return c.DeleteObjects(ctx, r.Namespace, made...)
}

// runJob runs the Job's container once.
func (c *ControlPlane) runJob(ctx context.Context, r *Release, u *unstructured.Unstructured, o WebhookOptions) error {
	job := &batchv1.Job{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, job); err != nil {
		return err
	}
	if n := len(job.Spec.Template.Spec.Containers); n != 1 {
		return fmt.Errorf("job %s has %d containers, the harness runs exactly one", job.Name, n)
	}
	if err := c.Client.Create(ctx, job.DeepCopy(), client.DryRunAll); err != nil {
		return fmt.Errorf("creating job %s: %w", job.Name, err)
	}
	pod := &container{
		namespace: r.Namespace,
		pod:       job.Name,
		dir:       c.file(job.Name),
		spec:      job.Spec.Template.Spec,
		labels:    job.Spec.Template.Labels,
	}
	env, err := pod.environment(ctx, c.Client)
	if err != nil {
		return err
	}
	if err := pod.writeVolumes(ctx, c.Client); err != nil {
		return err
	}
	config, err := c.ServiceAccountConfig(ctx, r.Namespace, pod.spec.ServiceAccountName)
	if err != nil {
		return err
	}
	kubeconfig, err := c.WriteKubeconfig(job.Name, config)
	if err != nil {
		return err
	}
	p := &Process{
		Name: "job " + job.Name,
		Path: o.Binary,
		Args: append(append(pod.arguments(), "--kubeconfig="+kubeconfig), o.Args...),
		Env:  append(env, "HOME="+c.dir, "PATH=/usr/bin:/bin", "GORACE=halt_on_error=1"),
		Log:  filepath.Join(c.logs, job.Name+".log"),
	}
	if err := p.Start(); err != nil {
		return err
	}
	c.onStop(func() error { p.Kill(); return nil })
	deadline := time.Minute
	if s := job.Spec.ActiveDeadlineSeconds; s != nil {
		deadline = time.Duration(*s) * time.Second
	}
	select {
	case <-p.Exited():
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(deadline):
		p.Kill()
		return fmt.Errorf("%s did not end within %s%s", p.Name, deadline, p.Tail())
	}
	return p.ended()
}

// ended returns nil if the command succeeded, and else how it ended.
func (p *Process) ended() error {
	if err := p.current().err; err != nil {
		return errors.Join(fmt.Errorf("%s: %w", p.Name, err), errors.New(p.Tail()))
	}
	return nil
}
