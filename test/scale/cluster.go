package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/kubernetes"

	"github.com/redis-tls/redis-tls/test/harness"
)

// options configure a cluster.
type options struct {
	webhook   string // path of its binary
	profiles  string // directory
	streaming bool
	progress  func(format string, args ...any)
}

// cluster is a control plane with the chart and one replica of its webhook.
type cluster struct {
	options
	plane   *harness.ControlPlane
	client  kubernetes.Interface // uses protobuf, which costs the API server less
	release *harness.Release
	webhook *harness.Webhook
	audit   *auditLog
	dir     string
	// rounds is the number of measurements of first uses, served the number of namespaces with managed objects.
	rounds, served int
}

// start starts a cluster whose API server logs every request of the webhook's service account.
func start(ctx context.Context, o options) (*cluster, error) {
	dir, err := os.MkdirTemp("", "redis-tls-scale-")
	if err != nil {
		return nil, err
	}
	c := &cluster{options: o, dir: dir}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *cluster) start(ctx context.Context) (err error) {
	policy := filepath.Join(c.dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return err
	}
	c.audit = &auditLog{path: filepath.Join(c.dir, "audit.log")}
	c.plane, err = harness.Start(ctx, harness.Options{
		Progress: c.progress,
		// etcd keeps all revisions until it is compacted, which takes more than the default of 2 GiB.
		EtcdArgs: []string{"--quota-backend-bytes=8589934592"},
		APIServerArgs: []string{
			"--audit-policy-file=" + policy, "--audit-log-path=" + c.audit.path, "--audit-log-mode=blocking",
			fmt.Sprintf("--feature-gates=WatchList=%t", c.streaming),
		},
	})
	if err != nil {
		return err
	}
	if err := c.plane.InstallIstioCRDs(ctx); err != nil {
		return err
	}
	if _, err := c.plane.RunSidecarInjector(ctx, harness.InjectorOptions{Native: true}); err != nil {
		return err
	}
	c.release, c.webhook, err = c.plane.Install(ctx, nil, harness.WebhookOptions{
		Binary: c.options.webhook, Args: []string{"--pprof-bind-address=:6060"},
	})
	if err != nil {
		return err
	}
	// The controller manager would only look for owners and create service accounts, and take time of the processors.
	c.plane.ControllerManager.Kill()
	config := c.plane.Config()
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	c.client, err = kubernetes.NewForConfig(config)
	return err
}

// close stops and removes everything.
func (c *cluster) close() error {
	var err error
	if c.plane != nil {
		err = c.plane.Stop()
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}
