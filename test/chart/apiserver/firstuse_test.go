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

// testFirstUse proves that the webhook's service account, which may patch pods, can only remove the first-use gate. The
// table leaves out the changes that the API server refuses to every account, which are most of a pod's spec.
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
		onlyGated    = "only pods that wait"
		onlyGate     = "scheduling gates"
		onlySpec     = "a pod's spec"
		onlyMetadata = "a pod's metadata"
	)
	distinct := []string{ // a case of each message
		"a label on a pod without the gate",
		"another gate removed with the gate",
		"an image with the gate removed",
		"a label added with the gate removed",
	}
	account := c.serviceAccount(t).CoreV1().Pods(plain)
	for name, test := range map[string]struct {
		pod   string
		kind  types.PatchType
		patch string
		want  string // part of the message, none if the patch is allowed
	}{
		"the gate removed, by JSON patch": {"waiting", types.JSONPatchType, `[` + jsonRemoval + `]`, ""},
		"the gate removed, by strategic merge patch": {
			"waiting",
			types.StrategicMergePatchType,
			`{"spec":{` + strategicRemoval + `}}`,
			"",
		},
		"the gate removed, by merge patch": {
			"waiting",
			types.MergePatchType,
			`{"spec":{"schedulingGates":null}}`,
			"",
		},
		"the gate removed, another kept": {
			"waiting-for-two",
			types.StrategicMergePatchType,
			`{"spec":{` + strategicRemoval + `}}`,
			"",
		},
		"another gate removed with the gate": {
			"waiting-for-two",
			types.MergePatchType,
			`{"spec":{"schedulingGates":null}}`,
			onlyGate,
		},
		"another gate removed instead of the gate": {
			"waiting-for-two",
			types.JSONPatchType,
			`[{"op":"remove","path":"/spec/schedulingGates/1"}]`,
			onlyGate,
		},
		"another gate removed from a pod without the gate": {
			"waiting-for-another",
			types.MergePatchType,
			`{"spec":{"schedulingGates":null}}`,
			onlyGated,
		},
		"a label on a pod without the gate": {
			"waiting-for-none",
			types.MergePatchType,
			`{"metadata":{"labels":{"team":"b"}}}`,
			onlyGated,
		},
		"an image of a pod without a gate": {
			"waiting-for-none",
			types.JSONPatchType,
			`[{"op":"replace","path":"/spec/containers/0/image","value":"evil"}]`,
			onlyGated,
		},
		"a label while the gate stays": {
			"waiting",
			types.MergePatchType,
			`{"metadata":{"labels":{"team":"b"}}}`,
			onlyGate,
		},
		"an image with the gate removed": {
			"waiting",
			types.JSONPatchType,
			`[` + jsonRemoval + `,{"op":"replace","path":"/spec/containers/0/image","value":"evil"}]`,
			onlySpec,
		},
		"a toleration with the gate removed": {
			"waiting",
			types.JSONPatchType,
			`[` + jsonRemoval + `,{"op":"add","path":"/spec/tolerations/-","value":{"operator":"Exists"}}]`,
			onlySpec,
		},
		"a node selector with the gate removed": {
			"waiting",
			types.StrategicMergePatchType,
			`{"spec":{` + strategicRemoval + `,"nodeSelector":{"node":"a"}}}`,
			onlySpec,
		},
		"an affinity with the gate removed": {
			"waiting",
			types.StrategicMergePatchType,
			`{"spec":{` + strategicRemoval +
				`,"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"node","operator":"Exists"}]}]}}}}}`,
			onlySpec,
		},
		"a shorter deadline with the gate removed": {
			"waiting",
			types.StrategicMergePatchType,
			`{"spec":{` + strategicRemoval + `,"activeDeadlineSeconds":1}}`,
			onlySpec,
		},
		"a label added with the gate removed": {
			"waiting",
			types.StrategicMergePatchType,
			`{"metadata":{"labels":{"new":"a"}},"spec":{` + strategicRemoval + `}}`,
			onlyMetadata,
		},
		"a label changed with the gate removed": {
			"waiting",
			types.StrategicMergePatchType,
			`{"metadata":{"labels":{"team":"b"}},"spec":{` + strategicRemoval + `}}`,
			onlyMetadata,
		},
		"all labels removed with the gate": {
			"waiting",
			types.StrategicMergePatchType,
			`{"metadata":{"labels":null},"spec":{` + strategicRemoval + `}}`,
			onlyMetadata,
		},
		"an annotation with the gate removed": {
			"waiting",
			types.StrategicMergePatchType,
			`{"metadata":{"annotations":{"team":"b"}},"spec":{` + strategicRemoval + `}}`,
			onlyMetadata,
		},
		"an owner with the gate removed": {
			"waiting",
			types.StrategicMergePatchType,
			`{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"a","uid":"b"}]},"spec":{` +
				strategicRemoval +
				`}}`,
			onlyMetadata,
		},
		"a finalizer removed with the gate": {
			"waiting",
			types.MergePatchType,
			`{"metadata":{"finalizers":null},"spec":{"schedulingGates":null}}`,
			onlyMetadata,
		},
		"the status, which RBAC does not allow": {
			"waiting",
			types.MergePatchType,
			`{"status":{"phase":"Failed"}}`,
			onlyGate,
		},
		"a patch that changes nothing while the gate stays": {"waiting", types.MergePatchType, `{}`, onlyGate},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := account.Patch(
				t.Context(),
				test.pod,
				test.kind,
				[]byte(test.patch),
				metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}},
			)
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
	t.Run("other accounts are not limited", func(t *testing.T) {
		_, err := pods.Patch(
			t.Context(),
			"waiting",
			types.MergePatchType,
			[]byte(`{"metadata":{"labels":{"team":"b"}}}`),
			metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}},
		)
		if err != nil {
			t.Error(err)
		}
	})
}
