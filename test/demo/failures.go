package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis-tls/redis-tls/test/harness"
)

// typo shows the answer to mistyped annotations.
func (d *demo) typo(ctx context.Context) error {
	d.title("A typo: every problem at once, each with its key, value and rule")
	manifest := pod("typo", `
    redis-tls/host: redis..example.com
    redis-tls/port: "6379O"
    redis-tls/ca-secert: redis-ca`)
	return d.refused(ctx, manifest, "redis-tls/host", "redis-tls/port", "redis-tls/ca-secret")
}

// handEdit shows that a user cannot delete objects in use.
func (d *demo) handEdit(ctx context.Context) error {
	d.title("A rule is deleted by hand: refused, because plaintext would reach the TLS port without it")
	namespace := "--namespace=" + d.examples[0].namespace
	stdout, stderr, err := d.kubectl(ctx, nil, "delete", "destinationrules", "--all", namespace)
	if err == nil {
		return fmt.Errorf("the rule could be deleted: %s%s", stdout, stderr)
	}
	return nil
}

// deadWebhook shows that a pod that requests TLS is refused while the webhook is dead, and that other pods are
// admitted.
func (d *demo) deadWebhook(ctx context.Context) error {
	requesting := pod("requesting", "\n    redis-tls/host: redis.example.com")
	d.title("The webhook is dead (kill -9): a pod that requests TLS is refused")
	d.webhook.Kill()
	if err := d.refused(ctx, requesting, "failed calling webhook", "annotated.pods.redis-tls.internal"); err != nil {
		return err
	}
	d.text("  Any other pod is admitted:")
	if _, stderr, err := d.kubectl(ctx, strings.NewReader(pod("plain", " {}")), "create", "-f", "-"); err != nil {
		return fmt.Errorf("a pod that does not request TLS was refused: %s", stderr)
	}

	d.title("Its registration is deleted as well: the guard, a policy in the API server, still refuses the pod")
	if _, stderr, err := d.kubectl(ctx, nil, "delete", "mutatingwebhookconfiguration", "00-redis-tls"); err != nil {
		return fmt.Errorf("deleting the webhook configuration: %s", stderr)
	}
	const stop = "the API server to stop calling the webhook"
	err := harness.Eventually(ctx, time.Minute, stop, func(ctx context.Context) error {
		_, stderr, err := d.plane.Kubectl(ctx, strings.NewReader(requesting), "create", "--dry-run=server", "-f", "-")
		if err == nil || strings.Contains(stderr, "failed calling webhook") {
			return errors.New(stderr)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.refused(ctx, requesting, "redis-tls-guard")
}

// refused creates the manifest. It fails unless the API server refuses it in a message with each of the texts.
func (d *demo) refused(ctx context.Context, manifest string, texts ...string) error {
	d.yaml(manifest)
	stdout, stderr, err := d.kubectl(ctx, strings.NewReader(manifest), "create", "-f", "-")
	if err == nil {
		return fmt.Errorf("it was not refused: %s%s", stdout, stderr)
	}
	for _, text := range texts {
		if !strings.Contains(stderr, text) {
			return fmt.Errorf("the refusal does not name %s", text)
		}
	}
	return nil
}

// kubectl runs kubectl and shows what it prints.
func (d *demo) kubectl(ctx context.Context, stdin *strings.Reader, args ...string) (stdout, stderr string, err error) {
	if stdin == nil {
		stdin = strings.NewReader("")
	}
	stdout, stderr, err = d.plane.Kubectl(ctx, stdin, args...)
	d.command("kubectl "+strings.Join(args, " "), stdout+stderr)
	return stdout, stderr, err
}

// pod is a pod with annotations, in a namespace with sidecars.
func pod(name, annotations string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: %s
  labels:
    sidecar.istio.io/inject: "true"
  annotations:%s
spec:
  containers:
  - name: app
    image: redis:8
`, name, annotations)
}
