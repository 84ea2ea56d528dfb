package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/redis-tls/redis-tls/test/demo/wire"
	"github.com/redis-tls/redis-tls/test/e2e/bed"
)

// wireTitle is the title of the act on the wire.
const wireTitle = "The wire: istiod, a sidecar with its iptables rules, and a Redis that listens with TLS only"

// wireAct starts a real mesh and shows what its network carries.
func (d *demo) wireAct(ctx context.Context) (err error) {
	d.title(wireTitle)
	mesh, err := bed.Start(ctx, bed.Options{Progress: d.step, Webhook: d.binary})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mesh.Stop()) }()
	d.plane, d.webhook = mesh.ControlPlane, mesh.Webhook
	var lines []string
	act := &wire.Act{Bed: mesh, Namespace: "aiven", Step: d.step, Print: func(line string) {
		d.transcriptLine(line)
		lines = append(lines, line+"\n")
	}}
	if err := act.Show(ctx); err != nil {
		return err
	}
	if d.transcript != "" {
		if err := os.WriteFile(d.transcript, []byte(strings.Join(lines, "")), 0o644); err != nil {
			return err
		}
	}
	return d.finish(ctx, act.Restore, fmt.Sprintf("ip netns exec %s redis-cli -h %s", act.App.Host.Namespace, wire.Host))
}

// leaveOutWire prints why the act on the wire is left out, and its transcript.
func (d *demo) leaveOutWire(missing error) error {
	d.title(wireTitle)
	d.text("This act is left out: %s.\nIt would show:\n", missing)
	for line := range strings.Lines(wire.Transcript) {
		d.transcriptLine(strings.TrimSuffix(line, "\n"))
	}
	return nil
}
