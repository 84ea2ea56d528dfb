// Command demo shows redis-tls on a real control plane. It creates pods and shows what each gets, which objects appear
// and how soon, the answer to a typo, and what happens when the webhook is dead. Then package wire sends bytes through
// a real mesh, if this machine has what it needs. The demo fails if it does not see what it prints.
//
// In the environment, WIRE=0 leaves the mesh out, and KEEP=1 leaves the last control plane running until Ctrl-C.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/redis-tls/redis-tls/test/demo/wire"
	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	d := &demo{screen: &screen{out: os.Stdout}}
	flag.StringVar(&d.binary, "webhook", "", "Path of a built cmd/webhook. If it is empty, the demo builds it.")
	flag.StringVar(&d.transcript, "transcript", "", "File to write the transcript of the last act to.")
	flag.Parse()
	err := d.run(ctx)
	switch {
	case ctx.Err() != nil: // interrupted, and cleaned up by the harness
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

// demo is what the acts share.
type demo struct {
	*screen
	binary     string // of the webhook
	transcript string // the file to write
	begun      time.Time
	plane      *harness.ControlPlane
	release    *harness.Release
	webhook    *harness.Webhook
	examples   []*example
}

func (d *demo) run(ctx context.Context) error {
	d.begun = time.Now()
	missing := bed.Check(wire.Components...)
	switch {
	case os.Getenv("WIRE") == "0":
		return d.objectsAct(ctx, d.finishObjects)
	case missing != nil: // the demo does not fail
		return d.objectsAct(ctx, func(context.Context) error { return d.leaveOutWire(missing) }, d.finishObjects)
	}
	if err := d.objectsAct(ctx); err != nil {
		return err
	}
	return d.wireAct(ctx)
}

// objectsAct shows pods and objects on a control plane without Istio. The last steps run while it is there.
func (d *demo) objectsAct(ctx context.Context, last ...func(context.Context) error) (err error) {
	d.title("A control plane on this machine")
	if d.plane, err = harness.Start(ctx, harness.Options{Progress: d.step}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.plane.Stop()) }()
	if err := d.loadExamples("memorystore", "aiven"); err != nil {
		return err
	}
	steps := []func(context.Context) error{
		d.mesh, d.podsBefore, d.install, d.applyExamples, d.nextRevision, d.typo, d.handEdit, d.deadWebhook,
	}
	for _, step := range append(steps, last...) {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// mesh installs Istio's CRDs, and what gives pods a sidecar.
func (d *demo) mesh(ctx context.Context) error {
	d.title("Istio's kinds, and a stand-in for its sidecar injector")
	d.text("Istio does not run here, and no container starts. A small webhook adds an istio-proxy, its volumes and\n" +
		"its annotations to pods as Istio's template does, under the name and the selectors of Istio's chart.")
	d.step("CustomResourceDefinitions of istio.io/api")
	if err := d.plane.InstallIstioCRDs(ctx); err != nil {
		return err
	}
	d.step("sidecar injector (stand-in)")
	_, err := d.plane.RunSidecarInjector(ctx, harness.InjectorOptions{Native: true})
	return err
}

// install applies the chart and starts the webhook.
func (d *demo) install(ctx context.Context) error {
	d.title("redis-tls: the chart, and the webhook of this tree")
	var err error
	if d.release, err = d.plane.RenderChart(nil); err != nil {
		return err
	}
	d.step("charts/redis-tls, %d objects as Helm renders them", len(d.release.Objects))
	if err := d.plane.Apply(ctx, d.release); err != nil {
		return err
	}
	d.step("webhook, as the chart's service account, reached through its Service")
	if d.webhook, err = d.plane.RunWebhook(ctx, d.release, harness.WebhookOptions{Binary: d.binary}); err != nil {
		return err
	}
	d.step("waiting until the API server calls it")
	return d.plane.WaitForAdmission(ctx, d.release)
}

func (d *demo) finishObjects(ctx context.Context) error {
	return d.finish(ctx, func(ctx context.Context) error {
		if err := d.plane.Apply(ctx, d.release); err != nil {
			return err
		}
		return d.webhook.Start(ctx)
	})
}

// finish ends the demo. With KEEP=1 it restores what the acts broke, shows the hints, and waits for Ctrl-C.
func (d *demo) finish(ctx context.Context, restore func(context.Context) error, hints ...string) error {
	d.title("That was all, in %s", time.Since(d.begun).Round(100*time.Millisecond))
	if os.Getenv("KEEP") != "1" {
		d.text("Everything is removed again. KEEP=1 make demo leaves it running.")
		return nil
	}
	if err := restore(ctx); err != nil {
		return err
	}
	d.text("The control plane and the webhook run until you press Ctrl-C. In another terminal:\n")
	d.text("  export KUBECONFIG=%s", d.plane.Kubeconfig)
	d.text("  alias kubectl=%s", d.plane.KubectlPath())
	for _, hint := range hints {
		d.text("  %s", hint)
	}
	select {
	case <-ctx.Done():
	case <-d.webhook.Exited():
		return d.webhook.Crashed()
	}
	<-d.plane.Stopped()
	return nil
}

// loadExamples reads examples/<name>/*.yaml.
func (d *demo) loadExamples(names ...string) error {
	root, err := harness.ModuleRoot()
	if err != nil {
		return err
	}
	for _, name := range names {
		e, err := loadExample(name, filepath.Join(root, "examples", name))
		if err != nil {
			return fmt.Errorf("example %s: %w", name, err)
		}
		d.examples = append(d.examples, e)
	}
	return nil
}
