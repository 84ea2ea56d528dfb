package e2e

import (
	"context"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
	"github.com/redis-tls/redis-tls/test/harness"
)

// TestAdoptWithoutAGap: `redis-tls adopt --write` replaces hand-written objects of a Deployment that serves. The test
// is the kubelet. Every pod runs commands all the time, from the moment it answers first until it has ended, and not
// one fails. Nothing is in plaintext on the wire.
func TestAdoptWithoutAGap(t *testing.T) {
	b := mesh(t)
	binary, err := b.Build(t.Context(), "./cmd/redis-tls", false)
	ok(t, err)
	kubeconfig, err := b.WriteKubeconfig("adopt", b.Config())
	ok(t, err)
	const port = 16222
	for _, c := range []struct {
		name, host string
		mutual     bool
		objects    string
		change     func(template *corev1.PodTemplateSpec)
	}{
		{
			name: "a DNS host with a private CA, for the whole namespace",
			host: "redis-adopt-a.aivencloud.com",
			objects: `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: redis}
spec:
  hosts: [redis-adopt-a.aivencloud.com]
  ports: [{number: 6379, targetPort: 16222, name: tcp-redis, protocol: TCP}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: redis}
spec:
  host: redis-adopt-a.aivencloud.com
  trafficPolicy: {tls: {mode: SIMPLE, caCertificates: /etc/redis-ca/ca.crt}}
`,
			change: func(template *corev1.PodTemplateSpec) {
				template.Annotations["sidecar.istio.io/userVolume"] = `{"redis-ca":{"secret":{"secretName":"redis-ca"}}}`
				template.Annotations["sidecar.istio.io/userVolumeMount"] = `{"redis-ca":{"mountPath":"/etc/redis-ca"}}`
			},
		},
		{
			name:   "mutual TLS behind a hand-written alias, for selected pods",
			host:   "redis-adopt-b.aivencloud.com",
			mutual: true,
			objects: `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: redis}
spec:
  hosts: [redis.shop.internal]
  exportTo: ["."]
  addresses: [240.242.0.1]
  ports: [{number: 6379, targetPort: 16222, name: tcp-redis, protocol: TCP}]
  resolution: DNS
  endpoints: [{address: redis-adopt-b.aivencloud.com.}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: redis}
spec:
  host: redis.shop.internal
  exportTo: ["."]
  workloadSelector: {matchLabels: {redis-client: "true"}}
  trafficPolicy:
    portLevelSettings:
    - port: {number: 6379}
      tls:
        mode: MUTUAL
        clientCertificate: /etc/redis-client/tls.crt
        privateKey: /etc/redis-client/tls.key
        caCertificates: /etc/redis-client/ca.crt
        sni: redis-adopt-b.aivencloud.com
        subjectAltNames: [redis-adopt-b.aivencloud.com]
`,
			change: func(template *corev1.PodTemplateSpec) {
				template.Labels["redis-client"] = "true"
				template.Annotations["sidecar.istio.io/userVolume"] = `[{"name":"client","secret":{"secretName":"client"}}]`
				template.Annotations["sidecar.istio.io/userVolumeMount"] = `[{"name":"client","mountPath":"/etc/redis-client"}]`
				template.Spec.HostAliases = []corev1.HostAlias{{
					IP: "240.242.0.1", Hostnames: []string{"redis-adopt-b.aivencloud.com"},
				}}
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := namespace(t, b, "adopt-"+strings.Split(c.host, ".")[0], nil, nil)
			servers, clients := newCA(t, "Servers"), newCA(t, "Clients")
			options := bed.RedisOptions{TLSPort: port, Leaf: issue(t, servers, []string{c.host})}
			if c.mutual {
				options.ClientCA = clients.PEM()
			}
			secret(t, b, ns, "redis-ca", "ca.crt", servers.PEM())
			clientSecret(t, b, ns, "client", issue(t, clients, []string{"cart"}), servers.PEM())
			redis := server(t, b, c.host, options)
			capture := record(t, redis)
			objects, err := harness.ParseObjects([]byte(c.objects))
			ok(t, err)
			ok(t, b.ApplyObjects(t.Context(), ns, objects...))
			cart := deployment(ns, "cart", map[string]string{})
			c.change(&cart.Spec.Template)
			ok(t, b.Client.Create(t.Context(), cart))

			node := kubelet{t: t, b: b, d: cart, host: c.host, pods: map[string]*busy{}}
			podsOf(t, b, cart, 1)
			node.sync()
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			done := make(chan error, 1)
			var output []byte
			go func() {
				var err error
				output, err = exec.CommandContext(ctx, binary, "adopt", "--kubeconfig", kubeconfig, "-n", ns,
					"--write").CombinedOutput()
				done <- err
			}()
			for finished := false; !finished; {
				select {
				case err := <-done:
					if finished = true; err != nil {
						t.Errorf("adopt: %v:\n%s", err, output)
					}
				case <-time.After(200 * time.Millisecond):
					node.sync()
				}
			}
			time.Sleep(2 * time.Second) // for commands after the last change
			node.stop()
			ok(t, b.Client.Get(t.Context(), client.ObjectKeyFromObject(cart), cart))
			annotations := cart.Spec.Template.Annotations
			if annotations["redis-tls/host"] != c.host || annotations["sidecar.istio.io/userVolume"] != "" {
				t.Errorf("the template has the annotations %v", annotations)
			}
			for _, o := range objects {
				o.SetNamespace(ns)
				if err := b.Client.Get(t.Context(), client.ObjectKeyFromObject(o), o); !apierrors.IsNotFound(err) {
					t.Errorf("%s exists after the adoption: %v", o.GetKind(), err)
				}
			}
			if n := onlyTLS(t, capture, port); n == 0 {
				t.Error("no connection was seen on the wire")
			}
		})
	}
}

// kubelet runs the pods of a Deployment.
type kubelet struct {
	t    *testing.T
	b    *bed.Bed
	d    *appsv1.Deployment
	host string
	pods map[string]*busy
}

// busy is a pod that runs commands all the time.
type busy struct {
	pod     *bed.Pod
	stopped atomic.Bool
	ended   chan struct{}
	count   int
}

// sync starts new pods, and ends those that the Deployment controller has deleted, while they still answer.
func (k *kubelet) sync() {
	k.t.Helper()
	var pods corev1.PodList
	ok(k.t, k.b.Client.List(k.t.Context(), &pods, client.InNamespace(k.d.Namespace)))
	for _, p := range pods.Items {
		running := k.pods[p.Name]
		switch {
		case running == nil && p.DeletionTimestamp == nil:
			k.pods[p.Name] = k.start(p)
		case running != nil && p.DeletionTimestamp != nil && !running.stopped.Load():
			time.Sleep(time.Second) // its termination takes a while, and it still answers
			running.stop()
			ok(k.t, running.pod.Delete(k.t.Context()))
		}
	}
}

func (k *kubelet) start(p corev1.Pod) *busy {
	k.t.Helper()
	running := &busy{pod: launch(k.t, k.b, p), ended: make(chan struct{})}
	answers(k.t, running.pod, k.host, 6379, "PONG", "PING") // as its readiness probe
	go func() {
		defer close(running.ended)
		for !running.stopped.Load() {
			got, err := running.pod.Redis(k.t.Context(), k.host, 6379, "PING")
			if err != nil || got != "PONG" {
				k.t.Errorf("command %d of pod %s failed: %q, %v", running.count, p.Name, got, err)
			}
			running.count++
		}
	}()
	reportReady(k.t, k.b, running.pod)
	return running
}

func (r *busy) stop() {
	r.stopped.Store(true)
	<-r.ended
}

// stop ends all commands. Three generations of pods must have run some: of the old template, with the annotations, and
// without the volumes.
func (k *kubelet) stop() {
	k.t.Helper()
	for name, r := range k.pods {
		r.stop()
		k.t.Logf("pod %s ran %d commands", name, r.count)
		if r.count < 10 {
			k.t.Errorf("pod %s ran only %d commands", name, r.count)
		}
	}
	if len(k.pods) != 3 {
		k.t.Errorf("%d pods ran, want 3", len(k.pods))
	}
}
