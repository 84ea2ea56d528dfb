package bed

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

const (
	startTimeout = 2 * time.Minute
	readyTimeout = 30 * time.Second
	nodeName     = "node-a"
)

// Pod is a pod that runs: its network namespace, its sidecar as the admitted Pod specifies it, and the commands that a
// test runs as one of its containers.
type Pod struct {
	*corev1.Pod
	Host *Host
	// Sidecar is pilot-agent with its Envoy. It is nil if the pod has none.
	Sidecar *harness.Process

	bed *Bed
	dir string
}

func isProxy(c corev1.Container) bool { return c.Name == "istio-proxy" }
func isInit(c corev1.Container) bool  { return c.Name == "istio-init" }

// Run creates the pod, starts it as it was admitted, and waits until its sidecar is ready. Its families are IPv4 by
// default.
func (b *Bed) Run(ctx context.Context, pod *corev1.Pod, families ...Family) (*Pod, error) {
	if err := b.Client.Create(ctx, pod); err != nil {
		return nil, err
	}
	p, err := b.StartPod(ctx, pod, families...)
	if err != nil {
		return nil, fmt.Errorf("running pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return p, p.WaitForSidecar(ctx)
}

// StartPod starts an admitted pod as a scheduler and a kubelet do, once it has no scheduling gate.
func (b *Bed) StartPod(ctx context.Context, pod *corev1.Pod, families ...Family) (*Pod, error) {
	host, err := b.Host(pod.Name, families...)
	if err != nil {
		return nil, err
	}
	p := &Pod{Host: host, bed: b, dir: filepath.Join(b.dir, host.Namespace)}
	if err := p.schedule(ctx, client.ObjectKeyFromObject(pod)); err != nil {
		return nil, err
	}
	if err := p.writeHosts(); err != nil {
		return nil, err
	}
	if err := p.SyncVolumes(ctx); err != nil {
		return nil, err
	}
	if err := p.Capture(ctx); err != nil {
		return nil, err
	}
	return p, p.StartSidecar()
}

// schedule binds the pod to a node and reports it as running at its address. The API server refuses the binding while
// the pod has a scheduling gate.
func (p *Pod) schedule(ctx context.Context, key client.ObjectKey) error {
	const removal = "the removal of the pod's scheduling gates"
	err := harness.Eventually(ctx, startTimeout, removal, func(ctx context.Context) error {
		p.Pod = &corev1.Pod{}
		if err := p.bed.Client.Get(ctx, key, p.Pod); err != nil {
			return err
		}
		if gates := p.Spec.SchedulingGates; len(gates) > 0 {
			return fmt.Errorf("gates %v", gates)
		}
		return nil
	})
	if err != nil {
		return err
	}
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		Target:     corev1.ObjectReference{Kind: "Node", Name: nodeName},
	}
	if err := p.bed.Clientset.CoreV1().Pods(key.Namespace).Bind(ctx, binding, metav1.CreateOptions{}); err != nil {
		return err
	}
	return harness.Eventually(ctx, startTimeout, "the status of the running pod", func(ctx context.Context) error {
		if err := p.bed.Client.Get(ctx, key, p.Pod); err != nil {
			return err
		}
		p.Status.Phase = corev1.PodRunning
		p.Status.HostIP, p.Status.PodIP = p.bed.fabric.gateway.String(), p.Host.Address.String()
		p.Status.PodIPs = nil
		for _, a := range p.Host.Addresses {
			p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a.String()})
		}
		return p.bed.Client.Status().Update(ctx, p.Pod)
	})
}

// DropAliases removes the pod's hostAliases from its /etc/hosts.
func (p *Pod) DropAliases() error {
	p.Spec.HostAliases = nil
	return p.writeHosts()
}

// writeHosts writes the files of /etc that a kubelet gives every container of a pod.
func (p *Pod) writeHosts() error {
	hosts := &strings.Builder{}
	fmt.Fprint(hosts, "127.0.0.1\tlocalhost\n::1\tlocalhost\n")
	for _, a := range p.Host.Addresses {
		fmt.Fprintf(hosts, "%s\t%s\n", a, p.Name)
	}
	for _, a := range p.Spec.HostAliases {
		fmt.Fprintf(hosts, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
	}
	const format = "search %s.svc.cluster.local svc.cluster.local cluster.local\n%soptions ndots:5\n"
	resolv := fmt.Sprintf(format, p.Namespace, p.Host.nameservers)
	return errors.Join(p.Host.writeFile("hosts", hosts.String()), p.Host.writeFile("resolv.conf", resolv))
}

// container returns the first container of both lists for which is returns true, or nil.
func (p *Pod) container(is func(corev1.Container) bool) *corev1.Container {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		if i := slices.IndexFunc(list, is); i >= 0 {
			return &list[i]
		}
	}
	return nil
}

// Capture sets the iptables rules of the pod's istio-init.
func (p *Pod) Capture(ctx context.Context) error {
	init := p.container(isInit)
	if init == nil {
		return nil
	}
	if err := need("iptables", p.bed.components.iptables); err != nil {
		return err
	}
	env, err := p.environment(init)
	if err != nil {
		return err
	}
	out, err := p.command(ctx, env, append([]string{p.bed.components.agent}, expandAll(init.Args, env)...)...)
	if err != nil {
		return fmt.Errorf("istio-init: %w: %s", err, out)
	}
	return nil
}

// Release removes the iptables rules.
func (p *Pod) Release(ctx context.Context) error {
	const flush = "for c in iptables ip6tables; do for t in nat mangle raw; do $c -t $t -F; done; done"
	out, err := p.command(ctx, nil, "sh", "-ec", flush)
	if err != nil {
		return fmt.Errorf("removing the rules: %w: %s", err, out)
	}
	return nil
}

// StartSidecar starts the pod's istio-proxy.
func (p *Pod) StartSidecar() error {
	proxy := p.container(isProxy)
	if proxy == nil {
		return nil
	}
	if err := need("envoy", p.bed.components.envoy); err != nil {
		return err
	}
	env, err := p.environment(proxy)
	if err != nil {
		return err
	}
	args, err := p.sidecarCommand(proxy, env)
	if err != nil {
		return err
	}
	if p.Sidecar == nil {
		p.Sidecar = p.Host.process("istio-proxy", env, args...)
	}
	return p.Sidecar.Start()
}

// WaitForSidecar waits until the sidecar passes the kubelet's readiness probe.
func (p *Pod) WaitForSidecar(ctx context.Context) error {
	if p.Sidecar == nil {
		return nil
	}
	err := harness.Eventually(ctx, readyTimeout, "the sidecar of "+p.Name+" to be ready", func(ctx context.Context) error {
		if err := p.Sidecar.Crashed(); err != nil {
			return err
		}
		return get(ctx, fmt.Sprintf("http://%s/healthz/ready", netip.AddrPortFrom(p.Host.Address, 15021)))
	})
	if err != nil {
		return fmt.Errorf("%w%s", err, p.Sidecar.Tail())
	}
	return nil
}

// KillSidecar ends the sidecar as a crash would, and waits until Envoy does not answer: the kernel ends Envoy some
// milliseconds after the process that the bed started.
func (p *Pod) KillSidecar(ctx context.Context) error {
	p.Sidecar.Kill()
	return harness.Eventually(ctx, readyTimeout, "Envoy of "+p.Name+" to end", func(ctx context.Context) error {
		if _, err := p.Envoy(ctx, "/server_info"); err == nil {
			return errors.New("it answers")
		}
		return nil
	})
}

// Delete stops the pod and deletes it without a grace period.
func (p *Pod) Delete(ctx context.Context) error {
	if p.Sidecar != nil {
		p.Sidecar.Kill()
	}
	err := p.bed.Client.Delete(ctx, p.Pod, client.GracePeriodSeconds(0))
	return errors.Join(client.IgnoreNotFound(err), p.Host.remove(), os.RemoveAll(p.dir))
}
