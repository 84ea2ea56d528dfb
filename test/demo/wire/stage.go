package wire

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// prepare starts the server and the pod of the example, and waits until the app reaches the server.
func (a *Act) prepare(ctx context.Context) error {
	a.Step("Redis with TLS, which DNS knows as %s", Host)
	if err := a.startServer(ctx); err != nil {
		return fmt.Errorf("starting Redis: %w", err)
	}
	a.Step("kubectl apply -f examples/aiven")
	pod, err := a.applyExample(ctx)
	if err != nil {
		return fmt.Errorf("applying examples/aiven: %w", err)
	}
	a.Step("pod %s: the iptables rules of its istio-init, then pilot-agent and Envoy", pod.Name)
	if a.App, err = a.Bed.StartPod(ctx, pod); err != nil {
		return fmt.Errorf("starting pod %s: %w", pod.Name, err)
	}
	if err := a.App.WaitForSidecar(ctx); err != nil {
		return err
	}
	a.Step("waiting until the sidecar routes %s", Host)
	return a.waitForAnswer(ctx)
}

// startServer runs a Redis with a certificate that a public authority issued: one that every sidecar trusts.
func (a *Act) startServer(ctx context.Context) error {
	leaf, err := a.Bed.PublicCA.Issue([]string{Host})
	if err != nil {
		return err
	}
	if a.server, err = a.Bed.Host("redis"); err != nil {
		return err
	}
	a.Bed.DNS.Set(Host, a.server.Address)
	_, err = a.server.RunRedis(ctx, bed.RedisOptions{TLSPort: tlsPort, Leaf: leaf})
	return err
}

// applyExample applies examples/aiven to the namespace and returns the pod of its Deployment.
func (a *Act) applyExample(ctx context.Context) (*corev1.Pod, error) {
	root, err := harness.ModuleRoot()
	if err != nil {
		return nil, err
	}
	objects, err := harness.ReadObjects(filepath.Join(root, "examples", "aiven"))
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		if o.GetKind() == "Namespace" {
			err = a.Bed.Namespace(ctx, a.Namespace, o.GetLabels(), o.GetAnnotations())
		} else {
			o.SetNamespace(a.Namespace)
			err = a.Bed.ApplyObjects(ctx, a.Namespace, o)
		}
		if err != nil {
			return nil, err
		}
	}
	pods := &corev1.PodList{}
	err = harness.Eventually(ctx, waitTimeout, "the pod of the Deployment", func(ctx context.Context) error {
		if err := a.Bed.Client.List(ctx, pods, client.InNamespace(a.Namespace)); err != nil {
			return err
		}
		if n := len(pods.Items); n != 1 {
			return fmt.Errorf("%d pods", n)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &pods.Items[0], nil
}

// waitForAnswer waits until the server answers the app.
func (a *Act) waitForAnswer(ctx context.Context) error {
	return harness.Eventually(ctx, waitTimeout, "an answer of "+Host, func(ctx context.Context) error {
		got, err := a.App.Redis(ctx, Host, appPort, "PING")
		if err != nil || got != "PONG" {
			return fmt.Errorf("PING: %q (%v)", got, err)
		}
		return nil
	})
}

// present makes the server show a certificate for the host from now on.
func (a *Act) present(ctx context.Context, host string) error {
	leaf, err := a.Bed.PublicCA.Issue([]string{host})
	if err != nil {
		return err
	}
	return a.server.Renew(ctx, tlsPort, leaf)
}

// deleteEntry deletes the ServiceEntry of the host and waits until the sidecar does not know it. The guard of the chart
// allows this to the controller only, and the controller would repair it: so it acts as the paused controller.
func (a *Act) deleteEntry(ctx context.Context) error {
	a.Step("pausing the controller: it would create the ServiceEntry again")
	if err := a.Bed.Webhook.Pause(); err != nil {
		return err
	}
	entries := &networkingv1.ServiceEntryList{}
	if err := a.Bed.Client.List(ctx, entries, client.InNamespace(a.Namespace)); err != nil {
		return err
	}
	if n := len(entries.Items); n != 1 {
		return fmt.Errorf("namespace %s has %d ServiceEntries, want one", a.Namespace, n)
	}
	entry := entries.Items[0]
	a.Step("kubectl delete serviceentry %s, as the service account of the controller", entry.Name)
	account, err := a.Bed.Release.Find("ServiceAccount", "")
	if err != nil {
		return err
	}
	_, stderr, err := a.Bed.Kubectl(ctx, nil, "delete", "serviceentry", entry.Name, "--namespace="+a.Namespace,
		"--as=system:serviceaccount:"+a.Bed.Release.Namespace+":"+account.GetName())
	if err != nil {
		return fmt.Errorf("deleting the ServiceEntry: %w: %s", err, stderr)
	}
	host := entry.Spec.Hosts[0]
	return harness.Eventually(ctx, waitTimeout, "the sidecar to remove "+host, func(ctx context.Context) error {
		clusters, err := a.App.Envoy(ctx, "clusters")
		if err == nil && strings.Contains(clusters, host) {
			err = errors.New("the sidecar has its cluster")
		}
		return err
	})
}

// Restore repairs what the act broke: the app reaches the server again.
func (a *Act) Restore(ctx context.Context) error {
	if a.plain != nil {
		a.plain.Kill()
	}
	if err := errors.Join(a.Bed.Webhook.Resume(), a.present(ctx, Host)); err != nil {
		return err
	}
	return a.waitForAnswer(ctx)
}

// Close removes the example, also after a failed act. A demo does not need it, because it stops the bed.
func (a *Act) Close(ctx context.Context) error {
	_ = a.Bed.Webhook.Resume() // fails if the webhook is dead
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: a.Namespace}}
	err := client.IgnoreNotFound(a.Bed.Client.Delete(ctx, namespace))
	if a.App != nil {
		err = errors.Join(err, a.App.Delete(ctx))
	}
	return err
}
