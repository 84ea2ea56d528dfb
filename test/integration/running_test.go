package integration

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// shapes are the annotations of pods with every kind of object.
var shapes = map[string]map[string]string{
	"pinned":   requesting(),
	"dialling": dialling(),
	"http":     {"redis-tls/host": "api.example.com", "redis-tls/protocol": "http"},
	"mutual": {
		"redis-tls/host":          "redis.example.com",
		"redis-tls/mode":          "mutual",
		"redis-tls/client-secret": "redis-client",
		"redis-tls/idle-timeout":  "5m",
	},
	"retargeted": {
		"redis-tls/host":              "redis.example.com",
		"redis-tls/target-port":       "16222",
		"redis-tls/subject-alt-names": "redis.example.net",
	},
	"restricted": {"redis-tls/host": "redis.example.com", "redis-tls/sidecar": "restrict"},
	"sds": {
		"redis-tls/host":         "redis.example.com",
		"redis-tls/ca-configmap": "redis-ca",
		"redis-tls/delivery":     "sds",
	},
	"server": {"redis-tls/server": "strict"},
}

// TestRunningPods: the request with which a pod was admitted is served, unchanged, for as long as the pod lives,
// whatever happens to the chart's values, to Services and to its status. The grace period and the delay are short here.
func TestRunningPods(t *testing.T) {
	values := map[string]any{"cleanup": map[string]any{"gracePeriod": "1s", "delay": "1s"}}
	c := start(t, setup{values: values})
	ns := c.namespace("running", nil, nil)
	pods := map[string]*corev1.Pod{}
	for shape, annotations := range shapes {
		pods[shape] = c.admitted(pod(ns, shape, annotations))
	}
	c.must(c.Client.Create(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "redis"},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "tcp-redis", Port: 6379}}}}))
	inMesh := map[string]string{"redis-tls/host": "redis", "redis-tls/mode": "istio-mutual"}
	c.eventually("the pod of a Service to be admitted", func(context.Context) (err error) {
		pods["service"], _, err = c.create(pod(ns, "service", inMesh))
		return err
	})
	c.waitForFreedPods([]string{ns})
	before := c.meshObjectsIn(ns)

	t.Run("another range of VIPs", func(t *testing.T) {
		c := c.on(t)
		c.change(values, "vip", map[string]any{"cidr": "252.0.0.0/8"})
		c.waitForSweep(ns, "moved.example.com")
		c.wantKept(before)
		if got, want := vips(
			c.admitted(pod(ns, "next", shapes["pinned"])), "redis.example.com",
		), vips(pods["pinned"], "redis.example.com"); !slices.Equal(got, want) {
			t.Errorf("the next pod of a key that has an entry has the VIPs %v, the first one %v", got, want)
		}
		if got := vips(
			c.admitted(pod(ns, "new", requestingFor("new.example.com"))), "new.example.com",
		); len(got) != 1 || !inside(got[0], "252.0.0.0/8") {
			t.Errorf("a pod of a new key has the VIPs %v", got)
		}
	})
	t.Run("a narrowed policy", func(t *testing.T) {
		c := c.on(t)
		c.change(values, "policy", map[string]any{
			"allowedHosts": []any{"*.example.org"},
			"allowedCIDRs": []any{"192.0.2.0/24"},
		})
		c.waitForEvent(ns, "RequestIgnored", "policy.allowedHosts")
		c.waitForIgnored(8) // the pods of seven shapes, and the new key
		c.waitForSweep(ns, "narrowed.example.org")
		c.wantKept(before)
		c.refused(pod(ns, "next-narrowed", shapes["pinned"]), "redis.example.com", "policy.allowedHosts")
	})
	t.Run("a status of a version that this release does not read", func(t *testing.T) {
		c := c.on(t)
		c.change(values, "policy", map[string]any{})
		c.waitForIgnored(0)
		c.must(c.Client.Delete(
			t.Context(), &registrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1Name("redis-tls-guard")},
		))
		for _, p := range pods {
			c.eventually("the status to be rewritten, without the guard", func(ctx context.Context) error {
				status := strings.Replace(p.Annotations[statusKey], `"version":"v1"`, `"version":"v9"`, 1)
				patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, statusKey, status)
				return c.Client.Patch(ctx, p.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(patch)))
			})
		}
		c.waitForEvent(ns, "RequestIgnored", `"v9"`)
		c.waitForIgnored(float64(len(pods)))
		c.must(c.Client.Delete(t.Context(), pod(ns, "next", nil), client.GracePeriodSeconds(0)))
		c.must(c.Client.Delete(t.Context(), pod(ns, "new", nil), client.GracePeriodSeconds(0)))
		c.waitForSweep(ns, "unread.example.com")
		c.wantKept(before)
	})
	t.Run("a Service that is deleted", func(t *testing.T) {
		c := c.on(t)
		c.must(c.Client.Delete(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "redis"}}))
		c.waitForSweep(ns, "without-service.example.com")
		c.wantKept(before)
	})
	t.Run("objects are deleted when their pods are", func(t *testing.T) {
		c := c.on(t)
		for _, p := range pods {
			c.must(c.Client.Delete(t.Context(), p, client.GracePeriodSeconds(0)))
		}
		c.eventually("all objects to be gone", func(context.Context) error {
			if remaining := c.meshObjectsIn(ns); len(remaining) > 0 {
				return fmt.Errorf("%q", names(remaining))
			}
			return nil
		})
	})
}

// change upgrades the release to other values, adds them to values, and restarts the webhook with them.
func (c *cluster) change(values map[string]any, key string, value map[string]any) {
	c.t.Helper()
	values[key] = value
	release, err := c.RenderChart(values)
	c.must(err)
	c.must(c.Apply(c.t.Context(), release))
	c.must(c.webhook.Restart(c.t.Context()))
	c.must(c.WaitForAdmission(c.t.Context(), release))
}

// waitForIgnored waits until the metric counts this many live pods with ignored requests.
func (c *cluster) waitForIgnored(want float64) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("%v ignored requests", want), func(context.Context) error {
		if got := c.metric("redis_tls_originations", `state="ignored"`); got != want {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
}

// waitForSweep creates and deletes a pod, and waits until its objects are deleted. Objects that were unused before are
// deleted by then too.
func (c *cluster) waitForSweep(namespace, host string) {
	c.t.Helper()
	before := c.meshObjectsIn(namespace)
	p := c.admitted(pod(namespace, "sweep-"+strings.ReplaceAll(host, ".", "-"), requestingFor(host)))
	c.entryOf(namespace, host)
	c.must(c.Client.Delete(c.t.Context(), p, client.GracePeriodSeconds(0)))
	c.eventually("the objects of a deleted pod to be deleted", func(context.Context) error {
		now := c.meshObjectsIn(namespace)
		maps.DeleteFunc(now, func(name, _ string) bool { _, was := before[name]; return was })
		if len(now) > 0 {
			return fmt.Errorf("%q", names(now))
		}
		return nil
	})
}

// waitForFreedPods waits until each of the namespaces has objects and none of its pods waits at the gate. Pods are
// freed after the last object is accepted.
func (c *cluster) waitForFreedPods(namespaces []string) {
	c.t.Helper()
	for _, namespace := range namespaces {
		c.eventually("mesh objects in "+namespace+", and no pod that waits", func(ctx context.Context) error {
			var pods corev1.PodList
			if err := c.Client.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
				return err
			}
			for i := range pods.Items {
				if p := &pods.Items[i]; len(gates(p)) > 0 {
					return fmt.Errorf("pod %s waits", p.Name)
				}
				if err := c.served(&pods.Items[i]); err != nil {
					return err
				}
			}
			if len(c.meshObjectsIn(namespace)) == 0 {
				return fmt.Errorf("there are no objects")
			}
			return nil
		})
	}
}
