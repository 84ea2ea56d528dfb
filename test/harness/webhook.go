package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// WebhookOptions configure RunWebhook.
type WebhookOptions struct {
	// Binary is the path of a built cmd/webhook. If it is empty, the harness builds it from this tree.
	Binary string
	// Race builds it with the race detector. It has no effect on a given Binary.
	Race bool
	// Args are added to the Deployment's arguments, and override them.
	Args []string
	// Through is a proxy for its calls to the API server, which can hold watches back.
	Through *WatchProxy
	// Probed makes the Service's endpoint follow the replica's readiness, as a kubelet and the endpoint controller do,
	// with a probe every second. Otherwise the endpoint exists from Start to Stop, also while the replica is killed.
	Probed bool
	// Unpublished keeps the replica out of its Service. It may be the leader, but gets no admission requests.
	Unpublished bool
}

// Webhook is one replica of the chart's Deployment. It runs as a process with the arguments, environment and volumes of
// the Deployment, and the chart's service account.
type Webhook struct {
	*Process
	// Address is the replica's own address, like a pod's.
	Address netip.Addr

	plane     *ControlPlane
	container *container
	service   *corev1.Service
	slice     *discoveryv1.EndpointSlice
	ready     string  // URL of the readiness probe
	probed    *probed // nil unless WebhookOptions.Probed
	hidden    bool    // WebhookOptions.Unpublished
	metrics   string  // its port
	profiles  string  // likewise; empty where none was asked for
}

// RunWebhook runs a replica, waits until it is ready and adds it to the endpoints of its Service. Several can run.
func (c *ControlPlane) RunWebhook(ctx context.Context, r *Release, o WebhookOptions) (*Webhook, error) {
	deployment, err := deploymentOf(r)
	if err != nil {
		return nil, err
	}
	if o.Binary == "" {
		if o.Binary, err = c.Build(ctx, "./cmd/webhook", o.Race); err != nil {
			return nil, err
		}
	}
	address, err := c.net.address()
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%s-%s", deployment.Name, strings.ReplaceAll(address.String(), ".", "-"))
	w := &Webhook{plane: c, Address: address, hidden: o.Unpublished, container: &container{
		namespace: r.Namespace, pod: name, address: address, dir: c.file(name),
		spec: deployment.Spec.Template.Spec, labels: deployment.Spec.Template.Labels,
	}}
	if err := w.prepare(ctx, name, o); err != nil {
		return nil, fmt.Errorf("running the webhook: %w", err)
	}
	if o.Probed {
		w.probed = &probed{done: make(chan struct{})}
		go w.follow()
	}
	c.onStop(func() error {
		w.unfollow()
		defer w.Kill()
		return w.Crashed()
	})
	return w, w.Start(ctx)
}

// prepare reads everything that a start needs.
func (w *Webhook) prepare(ctx context.Context, name string, o WebhookOptions) error {
	kubeconfig, err := w.kubeconfig(ctx, name, o.Through)
	if err != nil {
		return err
	}
	env, err := w.container.environment(ctx, w.plane.Client)
	if err != nil {
		return err
	}
	args := append(w.container.arguments(), "--kubeconfig="+kubeconfig, "--webhook-host="+w.Address.String())
	args = append(args, o.Args...)
	// Every replica has its own address, so it can use the ports of the Deployment.
	for _, flag := range []string{"--metrics-bind-address", "--health-probe-bind-address", "--pprof-bind-address"} {
		if port := boundPort(args, flag); port != "" {
			args = append(args, flag+"="+w.Address.String()+":"+port)
		}
	}
	w.metrics, w.profiles = boundPort(args, "--metrics-bind-address"), boundPort(args, "--pprof-bind-address")
	w.Process = &Process{
		Name: "webhook", Path: o.Binary, Args: args, Log: filepath.Join(w.plane.logs, name+".log"),
		Env: append(env, "HOME="+w.plane.dir, "TMPDIR="+w.plane.dir, "PATH=/usr/bin:/bin", "GORACE=halt_on_error=1"),
	}
	if w.ready, err = w.readiness(); err != nil {
		return err
	}
	return w.findService(ctx, name)
}

// kubeconfig writes a kubeconfig with a token of the chart's service account, so that the chart's RBAC applies to the
// webhook.
func (w *Webhook) kubeconfig(ctx context.Context, name string, proxy *WatchProxy) (string, error) {
	config, err := w.plane.ServiceAccountConfig(ctx, w.container.namespace, w.container.spec.ServiceAccountName)
	if err != nil {
		return "", err
	}
	if proxy != nil {
		config = proxy.through(config)
	}
	return w.plane.WriteKubeconfig(name, config)
}

// readiness returns the URL that a kubelet would probe.
func (w *Webhook) readiness() (string, error) {
	probe := w.container.only().ReadinessProbe
	if probe == nil || probe.HTTPGet == nil {
		return "", errors.New("the chart's container has no httpGet readinessProbe")
	}
	port, err := w.container.port(probe.HTTPGet.Port.IntVal, probe.HTTPGet.Port.StrVal)
	return fmt.Sprintf("http://%s:%d%s", w.Address, port, probe.HTTPGet.Path), err
}

// Start starts the replica, also after a kill or a stop, with the current volumes and RBAC. It adds the replica to its
// Service when it is ready.
func (w *Webhook) Start(ctx context.Context) error {
	if err := w.container.writeVolumes(ctx, w.plane.Client); err != nil {
		return err
	}
	if err := w.Process.Start(); err != nil {
		return err
	}
	err := waitReady(ctx, w.Process, func(ctx context.Context) error {
		_, err := w.fetch(ctx, w.ready)
		return err
	})
	if err != nil {
		w.Kill()
		return err
	}
	switch {
	case w.hidden:
		return nil
	case w.probed != nil:
		return w.WaitForEndpoint(ctx, true)
	default:
		return w.publish(ctx)
	}
}

// Stop ends the replica as a kubelet would, within the Deployment's grace period. Its endpoint is removed first or, if
// it is probed, when the readiness probe fails. Stop returns an error if the replica fails, or has had a data race.
func (w *Webhook) Stop(ctx context.Context) error {
	if w.probed == nil {
		if err := w.withdraw(ctx); err != nil {
			return err
		}
	}
	if err := w.Process.Stop(w.gracePeriod()); err != nil || w.probed == nil {
		return err
	}
	return w.WaitForEndpoint(ctx, false)
}

// Retire ends a replica that is not probed as the deletion of its pod does: its endpoint is removed, the preStop hook
// sleeps, then it gets SIGTERM.
func (w *Webhook) Retire(ctx context.Context) error {
	if err := w.withdraw(ctx); err != nil {
		return err
	}
	if l := w.container.only().Lifecycle; l != nil && l.PreStop != nil && l.PreStop.Sleep != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(l.PreStop.Sleep.Seconds) * time.Second):
		}
	}
	return w.Stop(ctx)
}

// gracePeriod returns the time that a kubelet gives a pod between SIGTERM and SIGKILL.
func (w *Webhook) gracePeriod() time.Duration {
	return time.Duration(ptr.Deref(
		w.container.spec.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds,
	)) * time.Second
}

// Restart stops the replica and starts it again.
func (w *Webhook) Restart(ctx context.Context) error {
	if err := w.Stop(ctx); err != nil {
		return err
	}
	return w.Start(ctx)
}

// Kill ends the replica as a crash would. Its endpoint stays, and that of a probed replica until the next probe.
func (w *Webhook) Kill() { w.Process.Kill() }

// Metrics returns the replica's /metrics, in Prometheus' text format.
func (w *Webhook) Metrics(ctx context.Context) (string, error) {
	return w.fetch(ctx, fmt.Sprintf("http://%s:%s/metrics", w.Address, w.metrics))
}

// Profile returns a profile of the replica, such as "heap?gc=1&debug=1", if Args serve them
// (--pprof-bind-address=:PORT).
func (w *Webhook) Profile(ctx context.Context, name string) (string, error) {
	return w.fetch(ctx, fmt.Sprintf("http://%s:%s/debug/pprof/%s", w.Address, w.profiles, name))
}

func (w *Webhook) fetch(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	// No proxy of the environment, because the address is local.
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, response.Status, body)
	}
	return string(body), err
}

// findService finds the Service that selects the Deployment's pods.
func (w *Webhook) findService(ctx context.Context, name string) error {
	services := &corev1.ServiceList{}
	if err := w.plane.Client.List(ctx, services, client.InNamespace(w.container.namespace)); err != nil {
		return err
	}
	for i := range services.Items {
		if s := &services.Items[i]; selects(s.Spec.Selector, w.container.labels) && serves(s, httpsPort) {
			w.service = s
			return w.describeEndpoint(name)
		}
	}
	return fmt.Errorf(
		"no Service in %s with port %d selects the Deployment's pods (labels %v)",
		w.container.namespace,
		httpsPort,
		w.container.labels,
	)
}

// httpsPort returns the port of the Service that the API server calls. Another Service may serve the metrics.
const httpsPort = 443

func serves(s *corev1.Service, port int32) bool {
	return slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Port == port })
}

func selects(selector, labels map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return len(selector) > 0
}
