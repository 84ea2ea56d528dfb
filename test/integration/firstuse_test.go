package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// TestFirstUse creates many pods and namespaces at once, where caches lag and writes race as they cannot in a unit
// test. The API server's audit log has the requests of the webhook's service account.
func TestFirstUse(t *testing.T) {
	log := filepath.Join(t.TempDir(), "audit.log")
	c := start(t, setup{apiServer: audited(t, log)})
	t.Run("50 pods at once have one entry and one rule", func(t *testing.T) { testFiftyPods(c.on(t)) })
	t.Run("200 namespaces at once each get their own objects", func(t *testing.T) { testManyNamespaces(c.on(t)) })
	t.Run("a pod whose objects exist causes no request to the API server", func(t *testing.T) {
		testNoRequests(c.on(t), log)
	})
}

func testFiftyPods(c *cluster) {
	ns := c.namespace("fifty", nil, nil)
	before := c.metric("redis_tls_first_use_duration_seconds_count")
	pods := make([]*corev1.Pod, 50)
	c.atOnce(len(pods), 50, func(i int) error {
		pods[i] = pod(ns, fmt.Sprintf("p-%d", i), requesting())
		return c.Client.Create(c.t.Context(), pods[i])
	})
	found := c.waitForObjects(ns, 1, 1)
	for _, p := range pods {
		if got := vips(p, "redis.example.com"); !slices.Equal(got, found.entries[0].Spec.Addresses) {
			c.t.Errorf("pod %s has the VIPs %v, the entry lists %v", p.Name, got, found.entries[0].Spec.Addresses)
		}
	}
	c.waitForFirstUses(before, pods)
	// The entry of 50 claims is written once. istiod would push each change of it.
	if now := c.entryOf(ns, "redis.example.com"); now.Generation != 1 {
		c.t.Errorf("the entry's spec was written %d times", now.Generation)
	}
}

func testManyNamespaces(c *cluster) {
	const count = 200
	name := func(i int) string { return fmt.Sprintf("many-%d", i) }
	c.atOnce(count, 20, func(i int) error {
		return c.Namespace(c.t.Context(), name(i), map[string]string{"istio-injection": "enabled"}, nil)
	})
	before := c.metric("redis_tls_first_use_duration_seconds_count")
	pods := make([]*corev1.Pod, count)
	c.atOnce(count, count, func(i int) error {
		pods[i] = pod(name(i), "p", requesting())
		return c.Client.Create(c.t.Context(), pods[i])
	})
	c.eventually("an entry and a rule in every namespace", func(ctx context.Context) error {
		found, err := c.objects(ctx, metav1.NamespaceAll)
		if err != nil {
			return err
		}
		entriesIn, rulesIn := map[string]int{}, map[string]int{}
		for _, entry := range found.entries {
			entriesIn[entry.Namespace]++
		}
		for _, rule := range found.rules {
			rulesIn[rule.Namespace]++
		}
		var others []string
		for i := range count {
			if entriesIn[name(i)] != 1 || rulesIn[name(i)] != 1 {
				others = append(others, fmt.Sprintf("%s has %d and %d", name(i), entriesIn[name(i)], rulesIn[name(i)]))
			}
		}
		if len(others) > 0 {
			return fmt.Errorf("%d do not have them, %s", len(others), others[0])
		}
		return nil
	})
	c.waitForFirstUses(before, pods)
}

// waitForFirstUses waits until the histogram counts every pod that was admitted before its objects existed, and checks
// that it counts no others.
func (c *cluster) waitForFirstUses(before float64, pods []*corev1.Pod) {
	c.t.Helper()
	want := 0.0
	for _, p := range pods {
		if p.Annotations[firstUseKey] != "" {
			want++
		}
	}
	if want == 0 {
		c.t.Error("no pod was admitted before its objects")
	}
	c.eventually(fmt.Sprintf("%v first uses to be measured", want), func(context.Context) error {
		if got := c.metric("redis_tls_first_use_duration_seconds_count") - before; got != want {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}

// testNoRequests creates pods in a namespace that has its objects, then one in another namespace. When the objects of
// that one exist, requests for the former pods would have been made too.
func testNoRequests(c *cluster, log string) {
	warm, cold := c.namespace("warm", nil, nil), c.namespace("cold", nil, nil)
	c.admitted(pod(warm, "first", requesting()))
	c.admitted(pod(warm, "first-by-address", dialling()))
	c.waitForObjects(warm, 2, 2)
	c.eventually("pods to be admitted without a gate", func(context.Context) error {
		p, _, err := c.create(pod(warm, "probe", dialling()), client.DryRunAll)
		if err == nil && len(gates(p)) > 0 {
			err = fmt.Errorf("gates %q", gates(p))
		}
		return err
	})
	c.eventually("the first pod's gate to be removed", func(context.Context) error {
		var pods corev1.PodList
		if err := c.Client.List(c.t.Context(), &pods, client.InNamespace(warm)); err != nil {
			return err
		}
		for i := range pods.Items {
			if len(gates(&pods.Items[i])) > 0 {
				return fmt.Errorf("pod %s waits", pods.Items[i].Name)
			}
		}
		return nil
	})

	c.eventually("the Events about the objects, which come last", func(context.Context) error {
		var events corev1.EventList
		if err := c.Client.List(c.t.Context(), &events, client.InNamespace(warm)); err != nil {
			return err
		}
		applied := 0
		for _, e := range events.Items {
			if e.Reason == "Applied" {
				applied++
			}
		}
		if applied < 2 {
			return fmt.Errorf("%d of 2", applied)
		}
		return nil
	})

	begin := time.Now()
	for i := range 20 {
		c.admitted(pod(warm, fmt.Sprintf("pinned-%d", i), requesting()))
		wantGates(c, c.admitted(pod(warm, fmt.Sprintf("by-address-%d", i), dialling())))
	}
	c.admitted(pod(cold, "first", requesting()))
	c.waitForObjects(cold, 1, 1)

	forCold := 0
	for _, event := range c.webhookRequests(log, begin) {
		switch {
		case event.ObjectRef.Namespace == cold:
			forCold++
		case event.Verb == "watch", strings.Contains(
			event.RequestURI, "/leases/",
		), discoveryRequest.MatchString(event.RequestURI):
			// These requests do not depend on pods: renewed watches, the lease, and discovery of the kinds of Istio and
			// cert-manager.
		default:
			c.t.Errorf("request to the API server: %s %s", event.Verb, event.RequestURI)
		}
	}
	if forCold < 2 {
		c.t.Errorf("the audit log shows %d requests for the first pod of a namespace, so the test proves nothing", forCold)
	}
}

// discoveryRequest matches a request for the kinds of a version of a group.
var discoveryRequest = regexp.MustCompile(
	`^/apis/(networking\.istio\.io|security\.istio\.io|cert-manager\.io)/v1(\?.*)?$`,
)

// audited makes kube-apiserver log every request of the service accounts of the release's namespace.
func audited(t *testing.T, log string) (args []string) {
	t.Helper()
	policy := filepath.Join(filepath.Dir(log), "audit.yaml")
	err := os.WriteFile(policy, []byte(`
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: ["system:serviceaccounts:`+harness.ReleaseNamespace+`"]
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"--audit-policy-file=" + policy, "--audit-log-path=" + log, "--audit-log-mode=blocking"}
}

// request is the part of an audit event that the test reads (audit.k8s.io/v1).
type request struct {
	Verb                     string
	RequestURI               string
	ObjectRef                struct{ Namespace string }
	RequestReceivedTimestamp metav1.MicroTime
}

// webhookRequests reads from the audit log the requests of the webhook's service account since a time.
func (c *cluster) webhookRequests(log string, since time.Time) (requests []request) {
	c.t.Helper()
	file, err := os.Open(log)
	c.must(err)
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event request
		c.must(json.Unmarshal(lines.Bytes(), &event))
		if event.RequestReceivedTimestamp.After(since) {
			requests = append(requests, event)
		}
	}
	c.must(lines.Err())
	return requests
}

// atOnce calls do for every number below count, with the given number of calls in parallel, and requires that none
// fails.
func (c *cluster) atOnce(count, parallel int, do func(i int) error) {
	c.t.Helper()
	errs := make([]error, count)
	slots := make(chan struct{}, parallel)
	var all sync.WaitGroup
	for i := range count {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			errs[i] = do(i)
		})
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			c.t.Fatalf("%d of %d: %v", i, count, err)
		}
	}
}
