// Package integration proves on a real kube-apiserver what no unit test can: that the API server calls the webhook for
// the right pods and accepts its patches, that it allows the controller's applies, deletions and gate removals, and
// that the policies hold without the webhook. Chart, RBAC, webhook and kubectl are real. A stand-in replaces Istio's
// injector, and there is no mesh.
//
// Annotation keys and labels are retyped here as literals, so that a rename breaks these tests.
package integration

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/redis-tls/redis-tls/test/harness"
)

const (
	statusKey   = "redis-tls/status"
	vipsKey     = "redis-tls/vips"
	firstUseKey = "redis-tls/first-use"
	injected    = "redis-tls/injected"
	gate        = "redis-tls/first-use"
	within      = 30 * time.Second

	// protectObjects is the ValidatingAdmissionPolicy that only the controller's account passes.
	protectObjects = "redis-tls-protect-objects"
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

// setup configures the cluster of a test.
type setup struct {
	values   map[string]any          // of the chart
	injector harness.InjectorOptions // of the stand-in for Istio's injector
	// apiServer are additional arguments of kube-apiserver.
	apiServer []string
	// lateCRDs does not install Istio's CRDs, noWebhook not the webhook, noInjector not the stand-in.
	lateCRDs, noWebhook, noInjector bool
}

// cluster is a control plane with the chart, its webhook from this tree and the stand-in injector.
type cluster struct {
	*harness.ControlPlane
	t       *testing.T
	release *harness.Release
	webhook *harness.Webhook
}

// start starts a cluster for the test only, which ends with the test.
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

// on returns the cluster for a subtest, which reports its own failures.
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

// eventually waits for a condition. On timeout it reports the last error.
func (c *cluster) eventually(what string, check func(context.Context) error) {
	c.t.Helper()
	c.must(harness.Eventually(c.t.Context(), within, what, check))
}

// namespace creates a namespace in which Istio injects sidecars, with additional labels and annotations.
func (c *cluster) namespace(name string, labels, annotations map[string]string) string {
	c.t.Helper()
	all := map[string]string{"istio-injection": "enabled"}
	maps.Copy(all, labels)
	c.must(c.Namespace(c.t.Context(), name, all, annotations))
	return name
}

// pod returns a pod of one container, with the annotations.
func pod(namespace, name string, annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: annotations},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app:1"}}},
	}
}

// requesting returns the annotations of a pod with a Redis by DNS name and its own CA.
func requesting() map[string]string {
	return map[string]string{"redis-tls/host": "redis.example.com", "redis-tls/ca-secret": "redis-ca"}
}

// dialling returns the annotations of a pod that dials an address, so it has no VIP.
func dialling() map[string]string {
	return map[string]string{
		"redis-tls/addresses": "10.20.30.40",
		"redis-tls/port":      "6378",
		"redis-tls/ca-secret": "redis-ca",
	}
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

// admitted creates the pod and requires that it is admitted.
func (c *cluster) admitted(p *corev1.Pod) *corev1.Pod {
	c.t.Helper()
	created, _, err := c.create(p)
	c.must(err)
	return created
}

// refused creates the pod and requires that it is refused with every one of the texts.
func (c *cluster) refused(p *corev1.Pod, texts ...string) {
	c.t.Helper()
	created, _, err := c.create(p)
	if err == nil {
		c.t.Fatalf("pod %s was admitted with annotations %v", created.Name, created.Annotations)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			c.t.Errorf("the refusal does not have %q:\n%v", text, err)
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

// objects are the ServiceEntries and DestinationRules of a namespace, managed or not. The closed rules, which every VIP
// has, are separate.
type objects struct {
	entries       []*networkingv1.ServiceEntry
	rules, closed []*networkingv1.DestinationRule
}

// objects lists the objects of the namespace.
func (c *cluster) objects(ctx context.Context, namespace string) (found objects, err error) {
	var entries networkingv1.ServiceEntryList
	var rules networkingv1.DestinationRuleList
	for _, list := range []client.ObjectList{&entries, &rules} {
		if err := c.Client.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return found, err
		}
	}
	found.entries = entries.Items
	for _, rule := range rules.Items {
		if strings.HasPrefix(rule.Name, "redis-tls-closed") {
			found.closed = append(found.closed, rule)
		} else {
			found.rules = append(found.rules, rule)
		}
	}
	return found, nil
}

// wrongClosed reports a wrong closed rule. There is one for the key of each entry with a VIP and, if there is such an
// entry, one for the namespace.
func (o objects) wrongClosed() error {
	want, found := map[string]bool{}, map[string]bool{}
	for _, entry := range o.entries {
		if key, behindVIP := keyOf(entry); behindVIP {
			want["*."+key+".vip.redis-tls.internal"], want["*.vip.redis-tls.internal"] = true, true
		}
	}
	for _, rule := range o.closed {
		found[rule.Spec.Host] = true
		tls := rule.Spec.GetTrafficPolicy().GetTls()
		if rule.Spec.WorkloadSelector != nil || !slices.Equal(rule.Spec.ExportTo, []string{rule.Namespace}) ||
			tls.GetMode() != networking.ClientTLSSettings_ISTIO_MUTUAL || tls.GetSni() != "closed.redis-tls.internal" ||
			!slices.Equal(tls.GetSubjectAltNames(), []string{"closed.redis-tls.internal"}) {
			return fmt.Errorf("closed rule %s does not close: %v", rule.Name, &rule.Spec)
		}
	}
	if !maps.Equal(want, found) {
		return fmt.Errorf("closed rules for %q, want %q", slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(want)))
	}
	return nil
}

// keyOf returns the key in the private host of an entry, and whether it is the private host of a VIP.
func keyOf(entry *networkingv1.ServiceEntry) (key string, behindVIP bool) {
	rest, behindVIP := strings.CutSuffix(entry.Spec.Hosts[0], ".vip.redis-tls.internal")
	return rest[strings.LastIndexByte(rest, '.')+1:], behindVIP
}

// waitForObjects waits until the namespace has the wanted number of entries and of rules without the closed ones, and
// the closed rules of these entries. It returns all.
func (c *cluster) waitForObjects(namespace string, wantEntries, wantRules int) (found objects) {
	c.t.Helper()
	c.eventually(fmt.Sprintf(
		"%d entries and %d rules in %s", wantEntries, wantRules, namespace,
	), func(ctx context.Context) (err error) {
		if found, err = c.objects(ctx, namespace); err != nil {
			return err
		}
		if len(found.entries) != wantEntries || len(found.rules) != wantRules {
			return fmt.Errorf("%d entries and %d rules", len(found.entries), len(found.rules))
		}
		return found.wrongClosed()
	})
	return found
}

// vips returns the addresses to which the pod's hostAliases resolve the host.
func vips(p *corev1.Pod, host string) (addresses []string) {
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

// as returns clients of the service account, with their own token.
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
