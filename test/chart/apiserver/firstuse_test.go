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
		"the gate removed, by JSON patch": {
			pod:   "waiting",
			kind:  types.JSONPatchType,
			patch: `[` + jsonRemoval + `]`,
		},
		"the gate removed, by strategic merge patch": {
			pod:   "waiting",
			kind:  types.StrategicMergePatchType,
			patch: `{"spec":{` + strategicRemoval + `}}`,
		},
		"the gate removed, by merge patch": {
			pod:   "waiting",
			kind:  types.MergePatchType,
			patch: `{"spec":{"schedulingGates":null}}`,
		},
		"the gate removed, another kept": {
			pod:   "waiting-for-two",
			kind:  types.StrategicMergePatchType,
			patch: `{"spec":{` + strategicRemoval + `}}`,
		},
		"another gate removed with the gate": {
			pod:   "waiting-for-two",
			kind:  types.MergePatchType,
			patch: `{"spec":{"schedulingGates":null}}`,
			want:  onlyGate,
		},
		"another gate removed instead of the gate": {
			pod:   "waiting-for-two",
			kind:  types.JSONPatchType,
			patch: `[{"op":"remove","path":"/spec/schedulingGates/1"}]`,
			want:  onlyGate,
		},
		"another gate removed from a pod without the gate": {
			pod:   "waiting-for-another",
			kind:  types.MergePatchType,
			patch: `{"spec":{"schedulingGates":null}}`,
			want:  onlyGated,
		},
		"a label on a pod without the gate": {
			pod:   "waiting-for-none",
			kind:  types.MergePatchType,
			patch: `{"metadata":{"labels":{"team":"b"}}}`,
			want:  onlyGated,
		},
		"an image of a pod without a gate": {
			pod:   "waiting-for-none",
			kind:  types.JSONPatchType,
			patch: `[{"op":"replace","path":"/spec/containers/0/image","value":"evil"}]`,
			want:  onlyGated,
		},
		"a label while the gate stays": {
			pod:   "waiting",
			kind:  types.MergePatchType,
			patch: `{"metadata":{"labels":{"team":"b"}}}`,
			want:  onlyGate,
		},
		"an image with the gate removed": {
			pod:   "waiting",
			kind:  types.JSONPatchType,
			patch: `[` + jsonRemoval + `,{"op":"replace","path":"/spec/containers/0/image","value":"evil"}]`,
			want:  onlySpec,
		},
		"a toleration with the gate removed": {
			pod:   "waiting",
			kind:  types.JSONPatchType,
			patch: `[` + jsonRemoval + `,{"op":"add","path":"/spec/tolerations/-","value":{"operator":"Exists"}}]`,
			want:  onlySpec,
		},
		"a node selector with the gate removed": {
			pod:   "waiting",
			kind:  types.StrategicMergePatchType,
			patch: `{"spec":{` + strategicRemoval + `,"nodeSelector":{"node":"a"}}}`,
			want:  onlySpec,
		},
		"an affinity with the gate removed": {
			pod:  "waiting",
			kind: types.StrategicMergePatchType,
			patch: `{"spec":{` + strategicRemoval +
				`,"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":` +
				`{"nodeSelectorTerms":[{"matchExpressions":[{"key":"node","operator":"Exists"}]}]}}}}}`,
			want: onlySpec,
		},
		"a shorter deadline with the gate removed": {
			pod:   "waiting",
			kind:  types.StrategicMergePatchType,
			patch: `{"spec":{` + strategicRemoval + `,"activeDeadlineSeconds":1}}`,
			want:  onlySpec,
		},
		"a label added with the gate removed": {
			pod:   "waiting",
			kind:  types.StrategicMergePatchType,
			patch: `{"metadata":{"labels":{"new":"a"}},"spec":{` + strategicRemoval + `}}`,
			want:  onlyMetadata,
		},
		"a label changed with the gate removed": {
			pod:   "waiting",
			kind:  types.StrategicMergePatchType,
			patch: `{"metadata":{"labels":{"team":"b"}},"spec":{` + strategicRemoval + `}}`,
			want:  onlyMetadata,
		},
		"all labels removed with the gate": {
			pod:   "waiting",
			kind:  types.StrategicMergePatchType,
			patch: `{"metadata":{"labels":null},"spec":{` + strategicRemoval + `}}`,
			want:  onlyMetadata,
		},
		"an annotation with the gate removed": {
			pod:   "waiting",
			kind:  types.StrategicMergePatchType,
			patch: `{"metadata":{"annotations":{"team":"b"}},"spec":{` + strategicRemoval + `}}`,
			want:  onlyMetadata,
		},
		"an owner with the gate removed": {
			pod:  "waiting",
			kind: types.StrategicMergePatchType,
			patch: `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"a","uid":"b"}]},"spec":{` +
				strategicRemoval +
				`}}`,
			want: onlyMetadata,
		},
		"a finalizer removed with the gate": {
			pod:   "waiting",
			kind:  types.MergePatchType,
			patch: `{"metadata":{"finalizers":null},"spec":{"schedulingGates":null}}`,
			want:  onlyMetadata,
		},
		"the status, which RBAC does not allow": {
			pod:   "waiting",
			kind:  types.MergePatchType,
			patch: `{"status":{"phase":"Failed"}}`,
			want:  onlyGate,
		},
		"a patch that changes nothing while the gate stays": {
			pod:   "waiting",
			kind:  types.MergePatchType,
			patch: `{}`,
			want:  onlyGate,
		},
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
