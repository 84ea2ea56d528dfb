package integration

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// older is the release that is upgraded from, as release/bundle.sh wrote it: chart and sources.
const older = "testdata/redis-tls-0.1.0.tar.gz"

// shapes are pods of every kind of object and hash that the older release makes, each in a namespace of its own.
var shapes = map[string]map[string]string{
	"pinned":     asking(),
	"dialling":   dialling(),
	"http":       {"redis-tls/host": "api.example.com", "redis-tls/protocol": "http"},
	"mutual":     {"redis-tls/host": "redis.example.com", "redis-tls/mode": "mutual", "redis-tls/client-secret": "redis-client", "redis-tls/idle-timeout": "5m"},
	"retargeted": {"redis-tls/host": "redis.example.com", "redis-tls/target-port": "16222", "redis-tls/subject-alt-names": "redis.example.net"},
	"restricted": {"redis-tls/host": "redis.example.com", "redis-tls/sidecar": "restrict"},
	"sds":        {"redis-tls/host": "redis.example.com", "redis-tls/ca-configmap": "redis-ca", "redis-tls/delivery": "sds"},
	"server":     {"redis-tls/server": "strict"},
}

// TestUpgrade goes from the older release, its chart with its binary, to this one and back, while pods are created
// all the time: none fails to be admitted, and no mesh object changes. What the older one wrote, labels, status and
// objects, the newer one reads and serves, and the other way round.
func TestUpgrade(t *testing.T) {
	c := start(t, setup{noWebhook: true})
	source := unpacked(t)
	was := c.version(source, filepath.Join(source, "charts", "redis-tls"))
	is := c.version("../..", "../../charts/redis-tls")
	c.must(c.Apply(t.Context(), was.Release))
	c.replicas = []*harness.Webhook{c.replica(was), c.replica(was)}
	c.must(c.WaitForAdmission(t.Context(), was.Release))

	first := c.oneOfEachShape("old")
	before := c.settledObjects(len(shapes))
	for _, step := range []struct {
		name     string
		from, to version
	}{{"to this release", was, is}, {"and back", is, was}} {
		t.Run(step.name, func(t *testing.T) {
			c := c.on(t)
			load := c.createAllTheTime()
			c.upgrade(step.from, step.to)
			load.end(c)
			if diff := cmp.Diff(before, c.meshObjects()); diff != "" {
				t.Errorf("mesh objects changed (-before +after):\n%s", diff)
			}
			c.sameAsBefore(first, c.oneOfEachShape(strings.ReplaceAll(step.name, " ", "-")))
			before = c.madeAnew("pinned", before)
		})
	}
}

// version is a release with the binary that belongs to it.
type version struct {
	*harness.Release
	binary string
}

// unpacked returns a directory with the older release.
func unpacked(t *testing.T) string {
	t.Helper()
	f, err := os.Open(older)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for r := tar.NewReader(unzipped); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		content, err := io.ReadAll(r)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *cluster) version(source, chart string) version {
	c.t.Helper()
	release, err := c.RenderForeignChart(harness.ReleaseName, harness.ReleaseNamespace, chart, nil)
	c.must(err)
	binary := filepath.Join(c.t.TempDir(), "webhook")
	build := exec.CommandContext(c.t.Context(), "go", "build", "-buildvcs=false", "-o", binary, "./cmd/webhook")
	build.Dir = source
	if out, err := build.CombinedOutput(); err != nil {
		c.t.Fatalf("building the webhook of %s: %v\n%s", source, err, out)
	}
	return version{release, binary}
}

func (c *cluster) replica(v version) *harness.Webhook {
	c.t.Helper()
	w, err := c.RunWebhook(c.t.Context(), v.Release, harness.WebhookOptions{Binary: v.binary})
	c.must(err)
	return w
}

// upgrade does what helm upgrade does: it applies the chart, deletes what that no longer has, and the Deployment is
// rolled, a new replica before an old one each time.
func (c *cluster) upgrade(from, to version) {
	c.t.Helper()
	c.must(c.Apply(c.t.Context(), to.Release))
	for _, o := range from.Objects {
		if !slices.ContainsFunc(to.Objects, func(kept *unstructured.Unstructured) bool {
			return kept.GroupVersionKind() == o.GroupVersionKind() && kept.GetName() == o.GetName()
		}) {
			c.must(c.DeleteObjects(c.t.Context(), from.Namespace, o))
		}
	}
	for i, old := range c.replicas {
		c.replicas[i] = c.replica(to)
		c.must(old.Retire(c.t.Context()))
	}
}

func (c *cluster) oneOfEachShape(name string) map[string]*corev1.Pod {
	c.t.Helper()
	pods := map[string]*corev1.Pod{}
	for shape, annotations := range shapes {
		if err := c.Namespace(c.t.Context(), shape, map[string]string{"istio-injection": "enabled"}, nil); err != nil && name == "old" {
			c.t.Fatal(err)
		}
		pods[shape] = c.admitted(pod(shape, name, annotations))
	}
	return pods
}

// settledObjects waits until every namespace has its objects and nobody writes them any more: until pods that wait have
// been freed, which comes after.
func (c *cluster) settledObjects(namespaces int) map[string]string {
	c.t.Helper()
	var found map[string]string
	c.eventually("mesh objects of every shape, and no pod that waits", func(ctx context.Context) error {
		found = c.meshObjects()
		in := map[string]bool{}
		for name := range found {
			_, rest, _ := strings.Cut(name, " ")
			namespace, _, _ := strings.Cut(rest, "/")
			in[namespace] = true
		}
		if len(in) != namespaces {
			return fmt.Errorf("%q", names(found))
		}
		var pods corev1.PodList
		if err := c.Client.List(ctx, &pods); err != nil {
			return err
		}
		for i := range pods.Items {
			if len(pods.Items[i].Spec.SchedulingGates) > 0 {
				return fmt.Errorf("pod %s/%s waits", pods.Items[i].Namespace, pods.Items[i].Name)
			}
		}
		return nil
	})
	return found
}

// sameAsBefore wants pods of one shape to be marked and pinned alike, whichever release admitted them.
func (c *cluster) sameAsBefore(before, after map[string]*corev1.Pod) {
	c.t.Helper()
	for shape, p := range after {
		if diff := cmp.Diff(before[shape].Labels, p.Labels); diff != "" {
			c.t.Errorf("%s: labels (-before +after):\n%s", shape, diff)
		}
		if diff := cmp.Diff(before[shape].Spec.HostAliases, p.Spec.HostAliases); diff != "" {
			c.t.Errorf("%s: pins (-before +after):\n%s", shape, diff)
		}
	}
}

// madeAnew deletes the namespace's rule, as only the garbage collector may, and wants the same one again: the
// controller of now serves the labels of pods that it did not admit. It returns the objects as they are then.
func (c *cluster) madeAnew(namespace string, before map[string]string) map[string]string {
	c.t.Helper()
	_, rules := c.waitForObjects(namespace, 1, 1)
	collector, err := client.New(c.As("system:serviceaccount:kube-system:generic-garbage-collector", "system:masters"), client.Options{Scheme: harness.Scheme()})
	c.must(err)
	c.must(collector.Delete(c.t.Context(), rules.Items[0]))
	var again networkingv1.DestinationRuleList
	c.eventually("the deleted rule to be there again", func(ctx context.Context) error {
		_, again, err = c.objects(ctx, namespace)
		if err == nil && (len(again.Items) != 1 || again.Items[0].UID == rules.Items[0].UID) {
			err = fmt.Errorf("%d rules", len(again.Items))
		}
		return err
	})
	if diff := cmp.Diff(rules.Items[0].Spec.String(), again.Items[0].Spec.String()); diff != "" {
		c.t.Errorf("the rule was made anew otherwise (-before +after):\n%s", diff)
	}
	now := c.meshObjects()
	if diff := cmp.Diff(names(before), names(now)); diff != "" {
		c.t.Errorf("objects (-before +after):\n%s", diff)
	}
	return now
}

// load creates pods of all shapes, one after the other and all the time.
type load struct {
	stop    context.CancelFunc
	workers sync.WaitGroup
	mu      sync.Mutex
	created int
	failed  []error
}

// loadEvery is how often each of the workers creates a pod.
const loadEvery = 200 * time.Millisecond

func (c *cluster) createAllTheTime() *load {
	c.t.Helper()
	ctx, stop := context.WithCancel(c.t.Context())
	l := &load{stop: stop}
	for worker, shape := range slices.Sorted(maps.Keys(shapes)) {
		l.workers.Go(func() {
			tick := time.NewTicker(loadEvery)
			defer tick.Stop()
			for i := 0; ; i++ {
				p := pod(shape, "", shapes[shape])
				p.GenerateName = fmt.Sprintf("load-%d-%d-", worker, i)
				err := c.Client.Create(context.WithoutCancel(ctx), p)
				l.mu.Lock()
				if l.created++; err != nil {
					l.failed = append(l.failed, fmt.Errorf("pod %d of shape %s: %w", i, shape, err))
				}
				l.mu.Unlock()
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
	}
	return l
}

// end stops the load, and wants every pod of it admitted.
func (l *load) end(c *cluster) {
	c.t.Helper()
	l.stop()
	l.workers.Wait()
	c.t.Logf("%d pods were created meanwhile", l.created)
	if len(l.failed) > 0 || l.created < len(shapes) {
		c.t.Errorf("of %d pods created meanwhile %d were not admitted: %v", l.created, len(l.failed), errors.Join(l.failed...))
	}
}
