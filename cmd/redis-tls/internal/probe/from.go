package probe

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
)

// Source is the pod that a probe runs in.
type Source struct {
	Namespace, Pod string
	// Image has the command line redis-tls in its PATH.
	Image string
	// Args are those of `redis-tls probe`.
	Args []string
	// Host is the target's, and GivenAddress reports that DNS is not used for it.
	Host         string
	GivenAddress bool
	// Wait limits the time until the container has run.
	Wait time.Duration
}

const (
	containerPrefix = "redis-tls-probe-"
	sidecarName     = "istio-proxy"
	// proxyUser is the user of the sidecar, whose connections Istio's rules do not capture (iptables and nftables of
	// tools/istio-iptables, --proxy-uid).
	proxyUser = 1337
	// ambientKey is the annotation of a pod whose traffic ztunnel captures, whoever its user is.
	ambientKey = "ambient.istio.io/redirection"
)

// FromPod runs the probe in an ephemeral container of a pod, as the user of the sidecar, and returns its report without
// a proposal. The API keeps the container in the pod's spec until the pod is deleted.
func FromPod(ctx context.Context, client kubernetes.Interface, s Source) (*Report, error) {
	var name string
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		pod, err := client.CoreV1().Pods(s.Namespace).Get(ctx, s.Pod, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if err := s.refuses(pod); err != nil {
			return err
		}
		container := s.container(pod)
		name = container.Name
		pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, container)
		_, err = client.CoreV1().Pods(s.Namespace).UpdateEphemeralContainers(ctx, s.Pod, pod, metav1.UpdateOptions{})
		return err
	})
	switch {
	case apierrors.IsForbidden(err):
		return nil, fmt.Errorf("pod %s/%s: the cluster does not allow the ephemeral container, whose user is %d. "+
			"It requires the rights to get pods and pods/log, and to update pods/ephemeralcontainers. The API server: %w",
			s.Namespace, s.Pod, proxyUser, err)
	case err != nil:
		return nil, fmt.Errorf("pod %s/%s: %w", s.Namespace, s.Pod, err)
	}
	ended, err := s.ended(ctx, client, name)
	if err != nil {
		return nil, err
	}
	log, err := client.CoreV1().Pods(s.Namespace).GetLogs(s.Pod, &corev1.PodLogOptions{Container: name}).Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("pod %s/%s: reading the log of container %s: %w", s.Namespace, s.Pod, name, err)
	}
	defer log.Close()
	text, err := io.ReadAll(io.LimitReader(log, 1<<20))
	if err != nil {
		return nil, err
	}
	return s.report(text, ended)
}

// refuses says why the pod cannot run the probe, or returns nil.
func (s *Source) refuses(pod *corev1.Pod) error {
	switch {
	case pod.Status.Phase != corev1.PodRunning:
		return fmt.Errorf("must be Running, is %s; choose another pod", cmp.Or(string(pod.Status.Phase), "unknown"))
	case pod.Annotations[ambientKey] == "enabled":
		return errors.New("is in ambient mode, which captures the connections of every user; " +
			"choose a pod outside the mesh")
	}
	for _, alias := range pod.Spec.HostAliases {
		if slices.Contains(alias.Hostnames, s.Host) && !s.GivenAddress {
			return fmt.Errorf("resolves %s to %s by spec.hostAliases, as redis-tls does for annotated pods; "+
				"choose a pod without it, or set --address", s.Host, alias.IP)
		}
	}
	return nil
}

// container is the ephemeral container. It has no rights, and its user is the sidecar's.
func (s *Source) container(pod *corev1.Pod) corev1.EphemeralContainer {
	user := int64(proxyUser)
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		if c.Name == sidecarName && c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
			user = *c.SecurityContext.RunAsUser // OpenShift has other users
		}
	}
	return corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name:                     containerPrefix + rand.String(5),
		Image:                    s.Image,
		Command:                  append([]string{"redis-tls", "probe"}, s.Args...),
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext: &corev1.SecurityContext{
			RunAsUser: &user, RunAsGroup: &user, RunAsNonRoot: ptr.To(true),
			AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}}
}

// hopeless are reasons of a container that waits for something that does not come.
var hopeless = []string{
	"CreateContainerConfigError", "CreateContainerError", "ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName",
	"RunContainerError",
}

// ended waits until the container has run.
func (s *Source) ended(
	ctx context.Context, client kubernetes.Interface, name string,
) (*corev1.ContainerStateTerminated, error) {
	var state corev1.ContainerState
	failed := errors.New("the container cannot start")
	err := wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, s.Wait, true, func(ctx context.Context) (bool, error) {
		pod, err := client.CoreV1().Pods(s.Namespace).Get(ctx, s.Pod, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
			return false, err
		}
		if err != nil {
			return false, nil // it is tried again until the time is over
		}
		for _, status := range pod.Status.EphemeralContainerStatuses {
			if status.Name == name {
				state = status.State
			}
		}
		if state.Waiting != nil && slices.Contains(hopeless, state.Waiting.Reason) {
			return false, failed
		}
		return state.Terminated != nil, nil
	})
	seen := "kubelet reports nothing yet"
	switch {
	case state.Waiting != nil:
		seen = strings.TrimSuffix(state.Waiting.Reason+": "+state.Waiting.Message, ": ")
	case state.Running != nil:
		seen = "it still runs"
	}
	switch {
	case errors.Is(err, failed):
		return nil, fmt.Errorf("pod %s/%s: container %s cannot start (%s); check --image", s.Namespace, s.Pod, name, seen)
	case wait.Interrupted(err):
		return nil, fmt.Errorf("pod %s/%s: container %s did not end in %s (%s); check --image, or set a longer --wait",
			s.Namespace, s.Pod, name, s.Wait, seen)
	}
	return state.Terminated, err
}

// report reads the log of the container. Errors of the command follow the report.
func (s *Source) report(log []byte, ended *corev1.ContainerStateTerminated) (*Report, error) {
	r := &Report{}
	err := json.NewDecoder(strings.NewReader(string(log))).Decode(r)
	if err != nil || r.Kind != Kind || r.APIVersion != APIVersion {
		text := strings.TrimPrefix(strings.TrimSpace(string(log)), "error: ")
		return nil, fmt.Errorf("pod %s/%s: the probe ended with status %d: %s", s.Namespace, s.Pod, ended.ExitCode,
			cmp.Or(text, ended.Message, ended.Reason, "it printed nothing"))
	}
	r.From = fmt.Sprintf("pod %s/%s", s.Namespace, s.Pod)
	return r, nil
}
