package apiserver

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// removal is the controller's patch, in the three forms that the API server knows.
const (
	jsonRemoval      = `{"op":"remove","path":"/spec/schedulingGates/0"}`
	strategicRemoval = `"schedulingGates":[{"$patch":"delete","name":"redis-tls/first-use"}]`
)

// testFirstUse proves that our own service account, which may patch pods, can only take our gate off.
// What the API server refuses to everybody (most of a pod's spec) is not in the table.
func testFirstUse(t *testing.T, c *cluster) {
	pods := c.Clientset.CoreV1().Pods(plain)
	seconds := int64(600)
	waiting := func(name string, gates ...string) *corev1.Pod {
		pod := newPod(named(name), label("team", "a"), annotated("team", "a"), manyVariables())
		pod.Finalizers = []string{"example.com/hold"}
		pod.Spec.ActiveDeadlineSeconds = &seconds
		for _, g := range gates {
			gate(g)(pod)
		}
		return pod
	}
	for _, pod := range []*corev1.Pod{
		waiting("waiting", "redis-tls/first-use"),
		waiting("waiting-for-two", "redis-tls/first-use", "example.com/quota"),
		waiting("waiting-for-another", "example.com/quota"),
		waiting("waiting-for-none"),
	} {
		if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	const (
		onlyOurs     = "only pods that wait"
		onlyGate     = "scheduling gates"
		onlySpec     = "a pod's spec"
		onlyMetadata = "a pod's metadata"
	)
	distinct := []string{ // a case of each message
		"a label on a pod without our gate",
		"another gate taken off beside ours",
		"an image beside our gate",
		"a label added beside our gate",
	}
	ours := c.serviceAccount(t).CoreV1().Pods(plain)
	for name, test := range map[string]struct {
		pod   string
		kind  types.PatchType
		patch string
		want  string // word of the refusal, none for a patch that is let through
	}{
		"our gate taken off, by JSON patch":             {"waiting", types.JSONPatchType, `[` + jsonRemoval + `]`, ""},
		"our gate taken off, by strategic merge patch":  {"waiting", types.StrategicMergePatchType, `{"spec":{` + strategicRemoval + `}}`, ""},
		"our gate taken off, by merge patch":            {"waiting", types.MergePatchType, `{"spec":{"schedulingGates":null}}`, ""},
		"our gate taken off, another left":              {"waiting-for-two", types.StrategicMergePatchType, `{"spec":{` + strategicRemoval + `}}`, ""},
		"another gate taken off beside ours":            {"waiting-for-two", types.MergePatchType, `{"spec":{"schedulingGates":null}}`, onlyGate},
		"another gate taken off instead of ours":        {"waiting-for-two", types.JSONPatchType, `[{"op":"remove","path":"/spec/schedulingGates/1"}]`, onlyGate},
		"another gate taken off a pod without ours":     {"waiting-for-another", types.MergePatchType, `{"spec":{"schedulingGates":null}}`, onlyOurs},
		"a label on a pod without our gate":             {"waiting-for-none", types.MergePatchType, `{"metadata":{"labels":{"team":"b"}}}`, onlyOurs},
		"an image of a pod without a gate":              {"waiting-for-none", types.JSONPatchType, `[{"op":"replace","path":"/spec/containers/0/image","value":"evil"}]`, onlyOurs},
		"a label while our gate stays":                  {"waiting", types.MergePatchType, `{"metadata":{"labels":{"team":"b"}}}`, onlyGate},
		"an image beside our gate":                      {"waiting", types.JSONPatchType, `[` + jsonRemoval + `,{"op":"replace","path":"/spec/containers/0/image","value":"evil"}]`, onlySpec},
		"a toleration beside our gate":                  {"waiting", types.JSONPatchType, `[` + jsonRemoval + `,{"op":"add","path":"/spec/tolerations/-","value":{"operator":"Exists"}}]`, onlySpec},
		"a node selector beside our gate":               {"waiting", types.StrategicMergePatchType, `{"spec":{` + strategicRemoval + `,"nodeSelector":{"node":"a"}}}`, onlySpec},
		"an affinity beside our gate":                   {"waiting", types.StrategicMergePatchType, `{"spec":{` + strategicRemoval + `,"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"node","operator":"Exists"}]}]}}}}}`, onlySpec},
		"a shorter deadline beside our gate":            {"waiting", types.StrategicMergePatchType, `{"spec":{` + strategicRemoval + `,"activeDeadlineSeconds":1}}`, onlySpec},
		"a label added beside our gate":                 {"waiting", types.StrategicMergePatchType, `{"metadata":{"labels":{"new":"a"}},"spec":{` + strategicRemoval + `}}`, onlyMetadata},
		"a label changed beside our gate":               {"waiting", types.StrategicMergePatchType, `{"metadata":{"labels":{"team":"b"}},"spec":{` + strategicRemoval + `}}`, onlyMetadata},
		"all labels taken off beside our gate":          {"waiting", types.StrategicMergePatchType, `{"metadata":{"labels":null},"spec":{` + strategicRemoval + `}}`, onlyMetadata},
		"an annotation beside our gate":                 {"waiting", types.StrategicMergePatchType, `{"metadata":{"annotations":{"team":"b"}},"spec":{` + strategicRemoval + `}}`, onlyMetadata},
		"an owner beside our gate":                      {"waiting", types.StrategicMergePatchType, `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"a","uid":"b"}]},"spec":{` + strategicRemoval + `}}`, onlyMetadata},
		"a finalizer taken off beside our gate":         {"waiting", types.MergePatchType, `{"metadata":{"finalizers":null},"spec":{"schedulingGates":null}}`, onlyMetadata},
		"the status, which RBAC does not give":          {"waiting", types.MergePatchType, `{"status":{"phase":"Failed"}}`, onlyGate},
		"a patch that changes nothing while it's there": {"waiting", types.MergePatchType, `{}`, onlyGate},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ours.Patch(t.Context(), test.pod, test.kind, []byte(test.patch), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
			var want []string
			if test.want != "" {
				want = []string{"redis-tls-first-use", test.want}
			}
			if err := wantRefusal(err, want...); err != nil {
				t.Error(err)
			}
			if slices.Contains(distinct, name) {
				c.catalogue("first use, "+name, err)
			}
		})
	}
	t.Run("others are not held to it", func(t *testing.T) {
		_, err := pods.Patch(t.Context(), "waiting", types.MergePatchType, []byte(`{"metadata":{"labels":{"team":"b"}}}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			t.Error(err)
		}
	})
}
