package harness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Audiences of service account tokens: the API server's own, and that of Istio's projected token.
const (
	serviceAccountIssuer = "https://kubernetes.default.svc.cluster.local"
	istioAudience        = "istio-ca"
)

func (c *ControlPlane) startEtcd(ctx context.Context, o Options) error {
	o.Progress("etcd")
	c.etcdURL = "http://" + netip.AddrPortFrom(c.loopback, etcdClientPort).String()
	peer := "http://" + netip.AddrPortFrom(c.loopback, etcdPeerPort).String()
	c.Etcd = c.process(etcdName, append([]string{
		"--name=default", "--initial-cluster=default=" + peer,
		"--data-dir=" + filepath.Join(c.dir, "etcd"),
		"--listen-client-urls=" + c.etcdURL, "--advertise-client-urls=" + c.etcdURL,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
		"--unsafe-no-fsync", // no data has to survive a power cut
		"--log-level=warn",
	}, o.EtcdArgs...)...)
	return c.startComponent(ctx, c.Etcd, c.etcdServes)
}

func (c *ControlPlane) startAPIServer(ctx context.Context, o Options) error {
	o.Progress("kube-apiserver")
	c.APIServer = c.process(apiServerName, append([]string{
		"--etcd-servers=" + c.etcdURL,
		"--bind-address=" + c.loopback.String(),
		fmt.Sprintf("--secure-port=%d", apiServerPort),
		"--advertise-address=" + c.address.String(), // a loopback one is refused
		"--endpoint-reconciler-type=none",           // no client reaches it as a Service
		"--tls-cert-file=" + c.file("apiserver.crt"),
		"--tls-private-key-file=" + c.file("apiserver.key"),
		"--token-auth-file=" + c.file("tokens.csv"),
		"--authorization-mode=RBAC",
		"--service-account-issuer=" + serviceAccountIssuer,
		"--service-account-key-file=" + c.file("service-accounts.pub"),
		"--service-account-signing-key-file=" + c.file("service-accounts.key"),
		"--api-audiences=" + serviceAccountIssuer + "," + istioAudience,
		"--service-cluster-ip-range=10.96.0.0/16",
		// The API server then resolves the address of a webhook's Service by EndpointSlices, instead of by kube-proxy
		// (k8s.io/apiserver/pkg/util/proxy, ResolveEndpoint).
		"--enable-aggregator-routing",
		"--allow-privileged", // istio-init and some user pods
	}, o.APIServerArgs...)...)
	return c.startComponent(ctx, c.APIServer, c.apiServerServes)
}

// controllers are those that the API needs to behave as users know it. There is no kubelet, so controllers that evict
// or collect pods are off.
const controllers = "namespace-controller,serviceaccount-controller,root-ca-certificate-publisher-controller," +
	"garbage-collector-controller,deployment-controller,replicaset-controller,statefulset-controller," +
	"job-controller,cronjob-controller,disruption-controller," +
	"validatingadmissionpolicy-status-controller,clusterrole-aggregation-controller"

func (c *ControlPlane) startControllerManager(ctx context.Context, o Options) error {
	o.Progress("kube-controller-manager")
	c.ControllerManager = c.process(controllerManagerName,
		"--kubeconfig="+c.Kubeconfig,
		"--leader-elect=false",
		"--secure-port=0",
		"--use-service-account-credentials",
		"--service-account-private-key-file="+c.file("service-accounts.key"),
		"--root-ca-file="+c.file("apiserver.crt"),
		"--controllers="+controllers,
		"--kube-api-qps=500", "--kube-api-burst=1000",
		"--concurrent-namespace-syncs=20", "--concurrent-gc-syncs=20",
	)
	return c.startComponent(ctx, c.ControllerManager, c.controllersWork)
}

// process prepares a component. Its environment has no proxy variables, which would redirect its calls to webhooks.
func (c *ControlPlane) process(name string, args ...string) *Process {
	return &Process{
		Name: name, Path: c.binaries[name], Args: args,
		Env: []string{"HOME=" + c.dir, "TMPDIR=" + c.dir, "PATH=/usr/bin:/bin"},
		Log: filepath.Join(c.logs, name+".log"),
	}
}

// startComponent starts it and waits until ready returns nil. If it ends early, the error is immediate.
func (c *ControlPlane) startComponent(ctx context.Context, p *Process, ready func(context.Context) error) error {
	if err := p.Start(); err != nil {
		return err
	}
	c.onStop(func() error { // its data is deleted too, so it needs no orderly end
		defer p.Kill()
		return p.Crashed()
	})
	return waitReady(ctx, p, ready)
}

// waitReady waits until ready returns nil, or the process ends.
func waitReady(ctx context.Context, p *Process, ready func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := fmt.Errorf("%s ended", p.Name)
	go func() {
		select {
		case <-p.Exited():
			cancel(ended)
		case <-ctx.Done():
		}
	}()
	err := Eventually(ctx, startTimeout, p.Name+" to serve", ready)
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), ended):
		return fmt.Errorf("%w before it served%s", ended, p.Tail())
	default:
		return fmt.Errorf("%w%s", err, p.Tail())
	}
}

// RestartAPIServer kills kube-apiserver if it runs, starts it again, and waits until it serves.
func (c *ControlPlane) RestartAPIServer(ctx context.Context) error {
	return c.restart(ctx, c.APIServer, c.apiServerServes)
}

// RestartEtcd does the same with etcd, which keeps its data, and waits for the API server behind it.
func (c *ControlPlane) RestartEtcd(ctx context.Context) error {
	if err := c.restart(ctx, c.Etcd, c.etcdServes); err != nil {
		return err
	}
	return waitReady(ctx, c.APIServer, c.apiServerServes)
}

// RestartControllerManager does the same with kube-controller-manager.
func (c *ControlPlane) RestartControllerManager(ctx context.Context) error {
	return c.restart(ctx, c.ControllerManager, c.apiServerServes)
}

func (c *ControlPlane) restart(ctx context.Context, p *Process, ready func(context.Context) error) error {
	p.Kill()
	if err := p.Start(); err != nil {
		return err
	}
	return waitReady(ctx, p, ready)
}

func (c *ControlPlane) etcdServes(ctx context.Context) error {
	var health struct{ Health string }
	if err := get(ctx, http.DefaultClient, c.etcdURL+"/health", &health); err != nil {
		return err
	}
	if health.Health != "true" {
		return fmt.Errorf("health is %q", health.Health)
	}
	return nil
}

func (c *ControlPlane) apiServerServes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return c.Clientset.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

// controllersWork reports whether the controllers have created the service account of namespace "default", without
// which no pod can be created there.
func (c *ControlPlane) controllersWork(ctx context.Context) error {
	return c.Client.Get(ctx, client.ObjectKey{Namespace: "default", Name: "default"}, &corev1.ServiceAccount{})
}
