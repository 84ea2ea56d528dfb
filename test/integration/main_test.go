// Package integration proves on a real kube-apiserver what no unit test can: that the API server asks
// the webhook for the right pods and takes its patches, that the controller's applies, deletions and
// gate removals are allowed and do what they say, that the policies hold without us. Chart, RBAC,
// webhook and kubectl are the real ones; for Istio's injector a stand-in runs, and there is no mesh.
//
// Annotation keys and labels are retyped here as literals, so that a rename breaks these tests.
package integration

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/redis-tls/redis-tls/test/harness"
)

const (
	statusKey  = "redis-tls/status"
	injected   = "redis-tls/injected"
	gate       = "redis-tls/first-use"
	within     = 30 * time.Second
	deployment = "Deployment"
)

func TestMain(m *testing.M) {
	flag.Parse()
	log.SetLogger(logr.Discard())
	if testing.Short() {
		fmt.Println("skipped: every test here starts a control plane (-short)")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// setup says how a test wants its cluster.
type setup struct {
	values   map[string]any          // of the chart
	injector harness.InjectorOptions // of the stand-in for Istio's injector
	// apiServer are further arguments of kube-apiserver.
	apiServer []string
	// lateCRDs leaves Istio's CRDs out; noWebhook the webhook, noInjector the stand-in.
	lateCRDs, noWebhook, noInjector bool
}

// cluster is a control plane with the chart, its webhook from this tree and the stand-in injector.
type cluster struct {
	*harness.ControlPlane
	t       *testing.T
	release *harness.Release
	webhook *harness.Webhook
	// replicas are the webhooks of a test that has several.
	replicas []*harness.Webhook
}

// start starts a cluster of the test's own, which ends with the test.
func start(t *testing.T, s setup) *cluster {
	t.Helper()
	plane, err := harness.Start(t.Context(), harness.Options{APIServerArgs: s.apiServer})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plane.Stop(); err != nil {
			t.Error(err)
		}
	})
	c := &cluster{ControlPlane: plane, t: t}
	if !s.lateCRDs {
		c.must(plane.InstallIstioCRDs(t.Context()))
	}
	if !s.noInjector {
		if _, err := plane.RunSidecarInjector(t.Context(), s.injector); err != nil {
			t.Fatal(err)
		}
	}
	if s.noWebhook {
		return c
	}
	c.release, c.webhook, err = plane.Install(t.Context(), s.values, harness.WebhookOptions{Race: true})
	c.must(err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the webhook's log ends:\n%s", c.webhook.Tail())
		}
	})
	return c
}

// on returns the cluster for a subtest, whose failures are its own.
func (c *cluster) on(t *testing.T) *cluster {
	copied := *c
	copied.t = t
	return &copied
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// eventually waits for a condition, and on timeout says what was last seen.
func (c *cluster) eventually(what string, check func(context.Context) error) {
	c.t.Helper()
	c.must(harness.Eventually(c.t.Context(), within, what, check))
}

// namespace makes a namespace in which Istio injects sidecars, with further labels and annotations.
func (c *cluster) namespace(name string, labels, annotations map[string]string) string {
	c.t.Helper()
	all := map[string]string{"istio-injection": "enabled"}
	maps.Copy(all, labels)
	c.must(c.Namespace(c.t.Context(), name, all, annotations))
	return name
}

// pod returns a pod of one container, with annotations.
func pod(namespace, name string, annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: annotations},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:1"}}},
	}
}

// asking are the annotations of a pod with a Redis by DNS name and a CA of its own.
func asking() map[string]string {
	return map[string]string{"redis-tls/host": "redis.example.com", "redis-tls/ca-secret": "redis-ca"}
}

// dialling are the annotations of a pod that dials an address, which cannot be pinned.
func dialling() map[string]string {
	return map[string]string{"redis-tls/addresses": "10.20.30.40", "redis-tls/port": "6378", "redis-tls/ca-secret": "redis-ca"}
}

// create creates the pod as the administrator and returns it as admitted, with the warnings.
func (c *cluster) create(p *corev1.Pod, opts ...client.CreateOption) (*corev1.Pod, []string, error) {
	c.t.Helper()
	warnings := &harness.Warnings{}
	config := c.Config()
	config.WarningHandler = warnings
	writer, err := client.New(config, client.Options{Scheme: harness.Scheme()})
	c.must(err)
	created := p.DeepCopy()
	err = writer.Create(c.t.Context(), created, opts...)
	return created, warnings.Texts(), err
}

// admitted creates the pod and wants it admitted.
func (c *cluster) admitted(p *corev1.Pod) *corev1.Pod {
	c.t.Helper()
	created, _, err := c.create(p)
	c.must(err)
	return created
}

// refused creates the pod and wants it refused with every one of the texts in the message.
func (c *cluster) refused(p *corev1.Pod, texts ...string) {
	c.t.Helper()
	created, _, err := c.create(p)
	if err == nil {
		c.t.Fatalf("pod %s was admitted with annotations %v", created.Name, created.Annotations)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			c.t.Errorf("the refusal does not say %q:\n%v", text, err)
		}
	}
}

// live returns the pod as the API server has it now.
func (c *cluster) live(p *corev1.Pod) *corev1.Pod {
	c.t.Helper()
	var now corev1.Pod
	c.must(c.Client.Get(c.t.Context(), client.ObjectKeyFromObject(p), &now))
	return &now
}

// objects returns the ServiceEntries and DestinationRules of the namespace.
func (c *cluster) objects(ctx context.Context, namespace string) (networkingv1.ServiceEntryList, networkingv1.DestinationRuleList, error) {
	var entries networkingv1.ServiceEntryList
	var rules networkingv1.DestinationRuleList
	if err := c.Client.List(ctx, &entries, client.InNamespace(namespace)); err != nil {
		return entries, rules, err
	}
	return entries, rules, c.Client.List(ctx, &rules, client.InNamespace(namespace))
}

// waitForObjects waits until the namespace has so many of each, and returns them.
func (c *cluster) waitForObjects(namespace string, wantEntries, wantRules int) (entries networkingv1.ServiceEntryList, rules networkingv1.DestinationRuleList) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("%d entries and %d rules in %s", wantEntries, wantRules, namespace), func(ctx context.Context) (err error) {
		if entries, rules, err = c.objects(ctx, namespace); err != nil {
			return err
		}
		if len(entries.Items) != wantEntries || len(rules.Items) != wantRules {
			return fmt.Errorf("%d entries and %d rules", len(entries.Items), len(rules.Items))
		}
		return nil
	})
	return entries, rules
}

// pins returns the addresses that the pod's hostAliases give for the host.
func pins(p *corev1.Pod, host string) (addresses []string) {
	for _, alias := range p.Spec.HostAliases {
		for _, name := range alias.Hostnames {
			if name == host {
				addresses = append(addresses, alias.IP)
			}
		}
	}
	return addresses
}

// gates returns the names of the pod's scheduling gates.
func gates(p *corev1.Pod) (names []string) {
	for _, g := range p.Spec.SchedulingGates {
		names = append(names, g.Name)
	}
	return names
}

// as returns a client of the service account, with a token of its own.
func (c *cluster) as(namespace, serviceAccount string) (client.Client, kubernetes.Interface) {
	c.t.Helper()
	config, err := c.ServiceAccountConfig(c.t.Context(), namespace, serviceAccount)
	c.must(err)
	own, err := client.New(config, client.Options{Scheme: harness.Scheme()})
	c.must(err)
	clientset, err := kubernetes.NewForConfig(config)
	c.must(err)
	return own, clientset
}
