// Package bed is a small mesh of real components on one machine, for the e2e tests and the demo: the control plane of
// test/harness with the chart, istiod with Istio's own charts and injector, and a network of namespaces. Redis servers
// listen there, and pods run their sidecar (pilot-agent and Envoy) behind Istio's own iptables rules.
//
// [Start] needs root, the binaries of `make control-plane mesh`, and redis-server, iptables and tcpdump of the system;
// [Check] reports what is missing. The hosts, pods and captures belong to the [Bed]: Stop of its control plane ends and
// removes them, or the reaper, a process that survives this one. The package configures nothing of redis-tls: the
// sidecar of a pod runs as the admitted Pod specifies.
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
	// Release and Webhook are those of charts/redis-tls.
	Release *harness.Release
	Webhook *harness.Webhook
	// Istiod can be paused, killed and started again.
	Istiod *harness.Process
	// DNS resolves names in the network.
	DNS *DNS
	// PublicCA is in the system roots of all sidecars. AddSystemRoots adds others.
	PublicCA *CA

	components   *components
	fabric       *fabric
	dir          string
	captures     atomic.Int32
	furtherRoots []byte
	meshConfig   map[string]any
}

// ErrMissing is returned if a component is not on this machine: by [Start] if every bed needs it, otherwise by the
// function that needs it.
var ErrMissing = errors.New("a component is missing")

// Options configure Start.
type Options struct {
	// MeshConfig is merged into Istio's meshConfig.
	MeshConfig map[string]any
	// Values are those of charts/redis-tls.
	Values map[string]any
	// Webhook is the path of a built cmd/webhook. If it is empty, Start builds it.
	Webhook string
	// Progress, if set, is called before each component starts.
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
	plane.FirstUse = map[string]any{"delay": "1s"} // istiod is not busy, so its debounce is 100 ms
	b := &Bed{ControlPlane: plane, components: found, dir: filepath.Join(plane.Directory(), "bed")}
	if err := b.start(ctx, o); err != nil {
		return nil, errors.Join(err, plane.Stop())
	}
	return b, nil
}

func (b *Bed) start(ctx context.Context, o Options) (err error) {
	// The processes of pods run as other users and read files in it.
	if err := errors.Join(os.Mkdir(b.dir, 0o755), os.Chmod(b.Directory(), 0o755)); err != nil {
		return err
	}
	o.Progress("network: a bridge, and a network namespace for each host")
	if b.fabric, err = newFabric(b); err != nil {
		return fmt.Errorf("making the network: %w", err)
	}
	if b.DNS, err = b.startDNS(); err != nil {
		return fmt.Errorf("starting the DNS server: %w", err)
	}
	if b.PublicCA, err = NewCA("Public CA"); err != nil {
		return err
	}
	o.Progress("istiod, with the CRDs, the charts and the sidecar injector of Istio")
	if err := b.startIstio(ctx, o.MeshConfig); err != nil {
		return fmt.Errorf("starting Istio: %w", err)
	}
	o.Progress("charts/redis-tls and its webhook")
	b.Release, b.Webhook, err = b.Install(ctx, o.Values, harness.WebhookOptions{
		Binary: o.Webhook,
		// The harness removes its endpoint first, so the webhook needs no delay for that.
		Args: []string{"--shutdown-delay=0s"},
	})
	return err
}

// File writes a file that the apps of all pods may read. It returns the path.
func (b *Bed) File(name string, content []byte) (string, error) {
	path := filepath.Join(b.dir, name)
	return path, os.WriteFile(path, content, 0o644)
}
