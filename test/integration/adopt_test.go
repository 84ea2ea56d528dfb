package integration

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// byHand are the hand-written objects of a host, as recipes have them.
const byHand = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: redis, namespace: NAMESPACE}
spec:
  hosts: [redis.example.com]
  ADDRESSES
  ports: [{number: 6379, name: tcp-redis, protocol: TCP}]
  resolution: RESOLUTION
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: redis, namespace: NAMESPACE}
spec:
  host: redis.example.com
  trafficPolicy: {tls: {mode: SIMPLE, caCertificates: /etc/redis-ca/ca.crt}}
`

// TestAdopt runs redis-tls adopt against the API server, with the real webhook, Deployment controller and admission
// policies. The order of its writes is that of the resource versions that they get.
func TestAdopt(t *testing.T) {
	c := start(t, setup{})
	binary, err := c.Build(t.Context(), "./cmd/redis-tls", false)
	c.must(err)
	kubeconfig, err := c.WriteKubeconfig("adopt", c.Config())
	c.must(err)
	adopt := func(ctx context.Context, args ...string) (stdout, stderr string, err error) {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		var out, errOut bytes.Buffer
		command := exec.CommandContext(ctx, binary, append([]string{"adopt", "--kubeconfig", kubeconfig}, args...)...)
		command.Stdout, command.Stderr = &out, &errOut
		err = command.Run()
		return out.String(), errOut.String(), err
	}
	t.Run("without --write it changes nothing, and with it no pod is ever without its objects", func(t *testing.T) {
		testAdoptOrder(c.on(t), adopt)
	})
	t.Run("an address that its own entry has is refused before anything is written", func(t *testing.T) {
		testAdoptConflict(c.on(t), adopt)
	})
	t.Run("what only the API server refuses is found by the dry run", func(t *testing.T) {
		testAdoptRefused(c.on(t), adopt)
	})
}

type adoption func(ctx context.Context, args ...string) (stdout, stderr string, err error)

// byHandDeployment returns a Deployment whose sidecars mount the CA for the hand-written rule.
func byHandDeployment(namespace string) *appsv1.Deployment {
	d := newDeployment(namespace, "cart", 2, map[string]string{
		"sidecar.istio.io/userVolume":      `{"redis-ca":{"secret":{"secretName":"redis-ca"}}}`,
		"sidecar.istio.io/userVolumeMount": `{"redis-ca":{"mountPath":"/etc/redis-ca","readOnly":true}}`,
	})
	d.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "REDIS", Value: "redis.example.com:6379"}}
	return d
}

func (c *cluster) createByHand(namespace, addresses, resolution string) {
	c.t.Helper()
	text := strings.NewReplacer("NAMESPACE", namespace, "ADDRESSES", addresses, "RESOLUTION", resolution).Replace(byHand)
	objects, err := harness.ParseObjects([]byte(text))
	c.must(err)
	for _, o := range objects {
		c.must(c.Client.Create(c.t.Context(), o))
	}
}

func testAdoptOrder(c *cluster, adopt adoption) {
	ns := c.namespace("adopt-order", nil, nil)
	c.createByHand(ns, "", "DNS")
	d := byHandDeployment(ns)
	c.must(c.Client.Create(c.t.Context(), d))
	before := c.podsOf(d, "redis-tls/host", "", "")
	for i := range before {
		c.makeReady(&before[i])
	}
	log := c.watch(ns)

	stdout, stderr, err := adopt(c.t.Context(), "-n", ns)
	if err != nil {
		c.t.Fatalf("%v: %s%s", err, stdout, stderr)
	}
	for _, want := range []string{
		"redis-tls/host: redis.example.com", "redis-tls/ca-secret: redis-ca",
		"1. ServiceEntry/redis", "2. DestinationRule/redis",
	} {
		if !strings.Contains(stdout, want) {
			c.t.Errorf("the plan lacks %q:\n%s", want, stdout)
		}
	}
	c.must(c.Client.Get(c.t.Context(), client.ObjectKeyFromObject(d), d))
	if d.Generation != 1 {
		c.t.Errorf("the Deployment has generation %d after a plan", d.Generation)
	}

	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	done := c.kubelet(ctx, d)
	stdout, stderr, err = adopt(ctx, "-n", ns, "--write")
	cancel()
	<-done
	if err != nil {
		c.t.Fatalf("%v: %s%s", err, stdout, stderr)
	}
	c.must(c.Client.Get(c.t.Context(), client.ObjectKeyFromObject(d), d))
	annotations := d.Spec.Template.Annotations
	if annotations["redis-tls/host"] != "redis.example.com" || annotations["sidecar.istio.io/userVolume"] != "" {
		c.t.Errorf("the template has the annotations %v", annotations)
	}
	c.wantOrder(log, before)
}

// wantOrder checks the order of the writes.
func (c *cluster) wantOrder(log *writes, before []corev1.Pod) {
	c.t.Helper()
	var entry, rule, annotated, withdrawn, lastOld int64
	c.eventually("the deletion of the rule to be seen", func(context.Context) error {
		for _, w := range log.sorted() {
			annotations, _, _ := unstructured.NestedStringMap(w.object.Object, "spec", "template", "metadata", "annotations")
			switch {
			case w.event == "DELETED" && w.object.GetName() == "redis" && w.object.GetKind() == "ServiceEntry":
				entry = w.version
			case w.event == "DELETED" && w.object.GetName() == "redis" && w.object.GetKind() == "DestinationRule":
				rule = w.version
			case w.event == "DELETED" && w.object.GetKind() == "Pod" && slices.ContainsFunc(before, func(p corev1.Pod) bool {
				return p.Name == w.object.GetName()
			}):
				lastOld = max(lastOld, w.version)
			case w.object.GetKind() == "Deployment" && annotated == 0 && annotations["redis-tls/host"] != "":
				annotated = w.version
				if annotations["sidecar.istio.io/userVolume"] == "" {
					c.t.Error("the volume was removed together with the annotations: new pods lack a file of the old rule")
				}
			case w.object.GetKind() == "Deployment" && annotated != 0 && withdrawn == 0 &&
				annotations["sidecar.istio.io/userVolume"] == "":
				withdrawn = w.version
			}
		}
		if rule == 0 || withdrawn == 0 {
			return fmt.Errorf("rule %d, volumes %d", rule, withdrawn)
		}
		return nil
	})
	order := []int64{annotated, lastOld, entry, rule, withdrawn}
	if slices.Contains(order, 0) || !slices.IsSorted(order) {
		c.t.Errorf("annotations, last old pod, entry, rule, volumes were written at %v", order)
	}
}

func testAdoptConflict(c *cluster, adopt adoption) {
	ns := c.namespace("adopt-conflict", nil, nil)
	c.createByHand(ns, "addresses: [10.20.30.40]", "STATIC")
	d := byHandDeployment(ns)
	d.Spec.Template.Spec.Containers[0].Env[0].Value = "10.20.30.40:6379"
	c.must(c.Client.Create(c.t.Context(), d))
	stdout, stderr, err := adopt(c.t.Context(), "-n", ns, "--write")
	if code := exitCode(err); code != 79 || !strings.Contains(stdout, "Scale to 0") ||
		!strings.Contains(stderr, "nothing was changed") {
		c.t.Errorf("exit status %d: %s%s", code, stdout, stderr)
	}
	c.wantUnchanged(d)
}

func testAdoptRefused(c *cluster, adopt adoption) {
	ns := c.namespace("adopt-refused", map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}, nil)
	c.createByHand(ns, "", "DNS")
	d := byHandDeployment(ns)
	c.must(c.Client.Create(c.t.Context(), d))
	stdout, stderr, err := adopt(c.t.Context(), "-n", ns, "--write")
	if code := exitCode(err); code != 79 || !strings.Contains(stderr, "violates PodSecurity") {
		c.t.Errorf("exit status %d: %s%s", code, stdout, stderr)
	}
	c.wantUnchanged(d)
}

// wantUnchanged checks that the Deployment and the hand-written objects are as they were.
func (c *cluster) wantUnchanged(d *appsv1.Deployment) {
	c.t.Helper()
	c.must(c.Client.Get(c.t.Context(), client.ObjectKeyFromObject(d), d))
	if d.Generation != 1 {
		c.t.Errorf("the Deployment has generation %d", d.Generation)
	}
	found, err := c.objects(c.t.Context(), d.Namespace)
	c.must(err)
	if len(found.entries)+len(found.rules) < 2 {
		c.t.Errorf("hand-written objects were deleted: %+v", found)
	}
}

func exitCode(err error) int {
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	}
	return 0
}

// write is one event of a watch.
type write struct {
	event   string
	version int64
	object  *unstructured.Unstructured
}

// writes are the events of several kinds.
type writes struct {
	mu  sync.Mutex
	all []write
}

func (w *writes) sorted() []write {
	w.mu.Lock()
	defer w.mu.Unlock()
	sorted := slices.Clone(w.all)
	slices.SortStableFunc(sorted, func(a, b write) int { return int(a.version - b.version) })
	return sorted
}

// watch collects the events of a namespace. The resource versions of all kinds are revisions of one etcd.
func (c *cluster) watch(namespace string) *writes {
	c.t.Helper()
	clients, err := dynamic.NewForConfig(c.Config())
	c.must(err)
	log := &writes{}
	for _, kind := range []schema.GroupVersionResource{
		{Group: "networking.istio.io", Version: "v1", Resource: "serviceentries"},
		{Group: "networking.istio.io", Version: "v1", Resource: "destinationrules"},
		{Group: "apps", Version: "v1", Resource: "deployments"},
		{Version: "v1", Resource: "pods"},
	} {
		events, err := clients.Resource(kind).Namespace(namespace).Watch(c.t.Context(), metav1.ListOptions{})
		c.must(err)
		go func() {
			for e := range events.ResultChan() {
				if o, ok := e.Object.(*unstructured.Unstructured); ok {
					version, _ := strconv.ParseInt(o.GetResourceVersion(), 10, 64)
					log.mu.Lock()
					log.all = append(log.all, write{string(e.Type), version, o})
					log.mu.Unlock()
				}
			}
		}()
	}
	return log
}

// kubelet makes the pods of a Deployment ready, as a kubelet would, until the context ends.
func (c *cluster) kubelet(ctx context.Context, d *appsv1.Deployment) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			var pods corev1.PodList
			if err := c.Client.List(ctx, &pods, client.InNamespace(d.Namespace)); err == nil {
				for i := range pods.Items {
					c.setReady(ctx, &pods.Items[i])
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	return done
}

// setReady makes a pod ready that is not. Another writer may be first, then the next call does it.
func (c *cluster) setReady(ctx context.Context, p *corev1.Pod) {
	if p.Status.Phase == corev1.PodRunning {
		return
	}
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{
		Type:               corev1.PodReady,
		Status:             corev1.ConditionTrue,
		LastTransitionTime: metav1.Now(),
	}}
	if err := c.Client.Status().Update(ctx, p); err != nil && ctx.Err() == nil {
		c.t.Logf("pod %s: %v", p.Name, err)
	}
}
