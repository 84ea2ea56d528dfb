package integration

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/test/harness"
)

// TestPreview compares the output of `redis-tls inject` with the pods and mesh objects of the cluster in an otherwise
// empty namespace. The printed pod is created too, in a namespace that is never sent to the webhook, so both sides have
// the API server's defaults. The guard only warns here.
func TestPreview(t *testing.T) {
	const mirror = "mirror"
	values := map[string]any{
		"policy":             map[string]any{"mode": "warn"},
		"defaults":           map[string]any{"redis-tls/port": "6380"},
		"excludedNamespaces": []any{"kube-system", mirror},
		"firstUse":           map[string]any{"acknowledgement": true}, // the default, which the harness changes
	}
	c := start(t, setup{values: values, noInjector: true})
	c.namespace(mirror, nil, nil)
	binary, err := c.Build(t.Context(), "./cmd/redis-tls", false)
	c.must(err)
	dir := t.TempDir()
	valuesFile := filepath.Join(dir, "values.yaml")
	writeYAML(t, valuesFile, values)

	for name, annotations := range map[string]map[string]string{
		"by-dns":     requesting(),
		"by-address": dialling(),
		"cidr":       {"redis-tls/addresses": "10.9.0.0/24,10.8.0.1", "redis-tls/ca-secret": "redis-ca"},
		"two": {
			"redis-tls/host":        "a.example.com",
			"redis-tls/target-port": "16222",
			"b.redis-tls/host":      "b.example.com",
			"b.redis-tls/addresses": "10.7.0.1",
			"b.redis-tls/ca-secret": "b",
		},
		"system-roots": {"redis-tls/host": "redis.example.com", "redis-tls/port": "6379,26379"},
		"inherits": {
			"redis-tls/host":      "redis.example.com",
			"redis-tls/ca-key":    "bundle.pem",
			"redis-tls/ca-secret": "redis-ca",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := c.on(t)
			labels := map[string]string{}
			if name == "inherits" {
				labels["redis-tls/injection"] = "enabled"
			}
			ns := c.namespace(name, labels, nil)
			original := pod(ns, "pod", annotations)
			original.Spec.HostAliases = []corev1.HostAlias{{IP: "10.1.1.1", Hostnames: []string{"mine"}}}
			original.TypeMeta.APIVersion, original.TypeMeta.Kind = "v1", "Pod"
			var live corev1.Namespace
			c.must(c.Client.Get(t.Context(), client.ObjectKey{Name: ns}, &live))
			live.TypeMeta.APIVersion, live.TypeMeta.Kind = "v1", "Namespace"
			podFile, nsFile := filepath.Join(dir, name+".yaml"), filepath.Join(dir, name+"-ns.yaml")
			writeYAML(t, podFile, original)
			writeYAML(t, nsFile, &live)

			printed := c.preview(binary, "inject", "-f", podFile, "--namespace-file", nsFile, "--values", valuesFile)
			var predicted corev1.Pod
			from(t, printed, "Pod", &predicted)
			predicted.Namespace = mirror
			predicted.Name = name
			admitted := c.admitted(original)
			mirrored := c.admitted(&predicted)           // created afterwards, because it has the VIP too
			if admitted.Annotations[firstUseKey] == "" { // a preview writes no time
				t.Error("the first pod does not record its first use")
			}
			delete(admitted.Annotations, firstUseKey)
			admitted.Namespace = mirror
			if diff := cmp.Diff(comparable(t, mirrored), comparable(t, admitted)); diff != "" {
				t.Errorf("the pod (-printed +admitted):\n%s", diff)
			}
			if originations(t, admitted) == "" {
				t.Error("the pod was not injected at all")
			}
			closed := count(printed, "DestinationRule", "redis-tls-closed")
			found := c.waitForObjects(ns, count(printed, "ServiceEntry", ""), count(printed, "DestinationRule", "")-closed)
			if len(found.closed) != closed {
				t.Errorf("%d closed rules, %d were printed", len(found.closed), closed)
			}
			for _, entry := range found.entries {
				var want networkingv1.ServiceEntry
				named(t, printed, "ServiceEntry", entry.Name, &want)
				wantSame(t, entry.Labels, want.Labels, entry.Annotations, want.Annotations, &entry.Spec, &want.Spec)
			}
			for _, rule := range slices.Concat(found.rules, found.closed) {
				var want networkingv1.DestinationRule
				named(t, printed, "DestinationRule", rule.Name, &want)
				wantSame(t, rule.Labels, want.Labels, rule.Annotations, want.Annotations, &rule.Spec, &want.Spec)
			}
		})
	}
}

// preview runs the command and returns the documents that it prints.
func (c *cluster) preview(binary string, args ...string) []*unstructured.Unstructured {
	c.t.Helper()
	command := exec.CommandContext(c.t.Context(), binary, args...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		c.t.Fatalf("%v: %s", err, stderr.String())
	}
	objects, err := harness.ParseObjects(out)
	c.must(err)
	return objects
}

// count returns the number of objects of the kind whose names have the prefix.
func count(objects []*unstructured.Unstructured, kind, prefix string) (n int) {
	for _, o := range objects {
		if o.GetKind() == kind && strings.HasPrefix(o.GetName(), prefix) {
			n++
		}
	}
	return n
}

// from converts the only object of the kind.
func from(t *testing.T, objects []*unstructured.Unstructured, kind string, into any) {
	t.Helper()
	named(t, objects, kind, "", into)
}

// named converts the object of the kind and name. An empty name matches any.
func named(t *testing.T, objects []*unstructured.Unstructured, kind, name string, into any) {
	t.Helper()
	for _, o := range objects {
		if o.GetKind() == kind && (name == "" || o.GetName() == name) {
			b, err := json.Marshal(o)
			if err == nil {
				err = json.Unmarshal(b, into)
			}
			if err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no %s %s was printed", kind, name)
}

func wantSame(t *testing.T, pairs ...any) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		got, err := json.Marshal(pairs[i])
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(pairs[i+1])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("(-printed +in the cluster):\n%s", diff)
		}
	}
}

func writeYAML(t *testing.T, path string, value any) {
	t.Helper()
	if object, ok := value.(runtime.Object); ok {
		converted, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
		if err != nil {
			t.Fatal(err)
		}
		value = converted
	}
	b, err := yaml.Marshal(value)
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
