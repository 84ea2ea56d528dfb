// Package bed is a small mesh of real parts on one machine: the control plane of test/harness with our
// chart, istiod with Istio's own charts and injector, and a network of namespaces in which Redis servers
// listen and pods run their sidecar (pilot-agent and Envoy) behind Istio's own iptables rules.
//
// In go the binaries of `make control-plane mesh` and the system's redis-server, iptables and tcpdump;
// out comes a Bed whose hosts, pods and captures belong to it: the control plane's Stop ends and removes
// them all, and where it cannot, a process that outlives this one. Nothing about Redis TLS is configured here: a pod's sidecar runs as its admitted Pod says.
package bed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/redis-tls/redis-tls/test/harness"
)

// Bed is a running test bed. Its fields are set by Start and not changed afterwards.
type Bed struct {
	*harness.ControlPlane
	// Release and Webhook are our chart's.
	Release *harness.Release
	Webhook *harness.Webhook
	// Istiod can be paused, killed and started again.
	Istiod *harness.Process
	// DNS is what the network resolves names by.
	DNS *DNS
	// PublicCA is the only CA of the bundle that all sidecars have as their system roots.
	PublicCA *CA

	components *components
	fabric     *fabric
	dir        string
	captures   atomic.Int32
}

// ErrMissing is returned where a component is not on this machine: by Start where nothing goes without
// it, else by what needs it.
var ErrMissing = errors.New("a component is missing")

// Options configure Start.
type Options struct {
	// MeshConfig is merged into Istio's meshConfig.
	MeshConfig map[string]any
	// Values are our chart's.
	Values map[string]any
	// Progress, if set, is told what is being started.
	Progress func(format string, args ...any)
}

// Start starts everything and waits until pods can be created.
func Start(ctx context.Context, o Options) (*Bed, error) {
	if o.Progress == nil {
		o.Progress = func(string, ...any) {}
	}
	root, err := harness.ModuleRoot()
	if err != nil {
		return nil, err
	}
	found, err := findComponents(root)
	if err != nil {
		return nil, err
	}
	if err := startReaper(); err != nil {
		return nil, err
	}
	plane, err := harness.Start(ctx, harness.Options{Progress: o.Progress})
	if err != nil {
		return nil, err
	}
	b := &Bed{ControlPlane: plane, components: found, dir: filepath.Join(plane.Directory(), "bed")}
	if err := b.start(ctx, o); err != nil {
		return nil, errors.Join(err, plane.Stop())
	}
	return b, nil
}

func (b *Bed) start(ctx context.Context, o Options) (err error) {
	// Users of the pods' processes read below it.
	if err := errors.Join(os.Mkdir(b.dir, 0o755), os.Chmod(b.Directory(), 0o755)); err != nil {
		return err
	}
	o.Progress("network")
	if b.fabric, err = newFabric(b); err != nil {
		return fmt.Errorf("making the network: %w", err)
	}
	if b.DNS, err = b.startDNS(); err != nil {
		return fmt.Errorf("starting the DNS server: %w", err)
	}
	if b.PublicCA, err = NewCA("Public CA"); err != nil {
		return err
	}
	o.Progress("istiod")
	if err := b.startIstio(ctx, o.MeshConfig); err != nil {
		return fmt.Errorf("starting Istio: %w", err)
	}
	o.Progress("webhook")
	// Its endpoint goes before it is stopped, so it need not wait for that.
	b.Release, b.Webhook, err = b.Install(ctx, o.Values, harness.WebhookOptions{Args: []string{"--shutdown-delay=0s"}})
	return err
}

// File writes a file that the apps of all pods may read, and returns its path.
func (b *Bed) File(name string, content []byte) (string, error) {
	path := filepath.Join(b.dir, name)
	return path, os.WriteFile(path, content, 0o644)
}
