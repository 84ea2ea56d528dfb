package webhook

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/json"
)

// leanPod decodes a pod save the bulky fields that no decision reads: environment variables, resources,
// probes and the like are most of a pod. It names what is left out, not what is read: every other field
// arrives, also one that a decision will read only tomorrow. That it decides as the whole pod does is tested.
//
// A field of the outer struct hides the embedded one of the same JSON name, as in encoding/json.
type leanPod struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        leanMeta `json:"metadata"`
	Spec            leanSpec `json:"spec"`
	Status          unparsed `json:"status"`
}

type leanMeta struct {
	metav1.ObjectMeta `json:",inline"`
	ManagedFields     unparsed `json:"managedFields"`
}

type leanSpec struct {
	corev1.PodSpec            `json:",inline"`
	Containers                []leanContainer `json:"containers"`
	InitContainers            []leanContainer `json:"initContainers"`
	Affinity                  unparsed        `json:"affinity"`
	Tolerations               unparsed        `json:"tolerations"`
	TopologySpreadConstraints unparsed        `json:"topologySpreadConstraints"`
}

type leanContainer struct {
	corev1.Container `json:",inline"`
	Env              unparsed `json:"env"` // of Istio's containers it is parsed after all, see containers
	EnvFrom          unparsed `json:"envFrom"`
	Ports            unparsed `json:"ports"`
	Resources        unparsed `json:"resources"`
	LivenessProbe    unparsed `json:"livenessProbe"`
	ReadinessProbe   unparsed `json:"readinessProbe"`
	StartupProbe     unparsed `json:"startupProbe"`
	Lifecycle        unparsed `json:"lifecycle"`
}

// istioNames begins the names of the containers that Istio's injector adds; how they capture traffic
// stands in their environment.
const istioNames = "istio-"

// unparsed is a JSON value, a part of the request's body.
type unparsed []byte

// UnmarshalJSON keeps the value as it is, without a copy: the body is not written to again.
func (u *unparsed) UnmarshalJSON(value []byte) error {
	*u = value
	return nil
}

// pod returns the pod. Objects under review may lack the namespace that the request has.
func (l *leanPod) pod(namespace string) (*corev1.Pod, error) {
	p := &corev1.Pod{TypeMeta: l.TypeMeta, ObjectMeta: l.Metadata.ObjectMeta, Spec: l.Spec.PodSpec}
	p.Namespace = namespace
	var err error
	if p.Spec.Containers, err = containers(l.Spec.Containers); err != nil {
		return nil, err
	}
	if p.Spec.InitContainers, err = containers(l.Spec.InitContainers); err != nil {
		return nil, err
	}
	return p, nil
}

// containers keeps nil nil: an operation on a list that is not there must add the list.
func containers(lean []leanContainer) ([]corev1.Container, error) {
	if lean == nil {
		return nil, nil
	}
	cs := make([]corev1.Container, len(lean))
	for i := range lean {
		cs[i] = lean[i].Container
		if env := lean[i].Env; env != nil && strings.HasPrefix(cs[i].Name, istioNames) {
			if err := json.UnmarshalCaseSensitivePreserveInts(env, &cs[i].Env); err != nil {
				return nil, fmt.Errorf("decoding the environment of container %s: %w", cs[i].Name, err)
			}
		}
	}
	return cs, nil
}
