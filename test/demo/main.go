// Command demo shows the whole on a real control plane: what a pod gets, which objects appear and how
// fast, what another request changes, what a typo gets, and what happens when the webhook is dead. It fails where it does not see what
// it says. KEEP=1 leaves the control plane running until Ctrl-C.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/redis-tls/redis-tls/test/harness"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	binary := flag.String("webhook", "", "path of a built cmd/webhook; empty: it is built")
	flag.Parse()
	err := (&demo{screen: &screen{out: os.Stdout}, binary: *binary}).run(ctx)
	switch {
	case ctx.Err() != nil: // interrupted, and cleaned up by the harness
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

// demo is what the steps share.
type demo struct {
	*screen
	binary   string // of the webhook
	plane    *harness.ControlPlane
	release  *harness.Release
	webhook  *harness.Webhook
	examples []*example
}

func (d *demo) run(ctx context.Context) (err error) {
	begin := time.Now()
	d.title("A control plane on this machine")
	if d.plane, err = harness.Start(ctx, harness.Options{Progress: d.step}); err != nil {
		return err
	}
	defer func() {
		if stopped := d.plane.Stop(); err == nil {
			err = stopped
		}
	}()
	if err := d.loadExamples("memorystore", "aiven"); err != nil {
		return err
	}
	for _, show := range []func(context.Context) error{
		d.mesh, d.podsBefore, d.install, d.applyExamples, d.nextRevision, d.typo, d.handEdit, d.deadWebhook,
	} {
		if err := show(ctx); err != nil {
			return err
		}
	}
	d.title("That was all, in %s", time.Since(begin).Round(100*time.Millisecond))
	if os.Getenv("KEEP") == "1" {
		return d.keep(ctx)
	}
	d.text("Everything is removed again. KEEP=1 make demo leaves it running.")
	return nil
}

// mesh makes the API server know Istio's kinds, and pods get a sidecar.
func (d *demo) mesh(ctx context.Context) error {
	d.title("Istio's kinds, and a stand-in for its sidecar injector")
	d.text("No Istio runs here and no container starts. A small webhook adds an istio-proxy, its volumes and\n" +
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
	d.title("Redis TLS: the chart, and the webhook of this tree")
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
	d.step("waiting until the API server asks it")
	return d.plane.WaitForAdmission(ctx, d.release)
}

// keep brings the webhook back and waits for Ctrl-C.
func (d *demo) keep(ctx context.Context) error {
	if err := d.plane.Apply(ctx, d.release); err != nil {
		return err
	}
	if err := d.webhook.Start(ctx); err != nil {
		return err
	}
	d.text("It runs on, the webhook too, until you press Ctrl-C. In another terminal:\n")
	d.text("  export KUBECONFIG=%s", d.plane.Kubeconfig)
	d.text("  alias kubectl=%s", d.plane.KubectlPath())
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
