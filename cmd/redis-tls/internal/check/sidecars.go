package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
)

// SidecarReader reads what the sidecar of a pod has.
type SidecarReader interface {
	// Read returns the answers of Envoy by the names of [dumps].
	Read(ctx context.Context, pod *corev1.Pod) (map[string][]byte, error)
}

// readSidecars reads the sidecars of the live pods, or of one.
func (r *WorkloadReader) readSidecars(ctx context.Context, w *Workload) {
	var pods []*corev1.Pod
	for _, p := range w.Running {
		if p.Admitted && p.Status.Phase == corev1.PodRunning && proxy(p.Pod) != nil {
			pods = append(pods, p.Pod)
		}
	}
	if r.OnePod && len(pods) > 1 {
		pods = pods[:1]
	}
	delete(w.unread, sourceSidecar)
	if len(pods) == 0 {
		w.unread[sourceSidecar] = "no pod with a sidecar runs"
		return
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	for _, pod := range pods {
		group.Go(func() {
			envoy, reason := r.readSidecar(ctx, pod)
			mu.Lock()
			defer mu.Unlock()
			if reason != "" {
				w.unread[sourceSidecar] = reason
			} else {
				w.Proxies[pod.Name] = envoy
			}
		})
	}
	group.Wait()
}

func (r *WorkloadReader) readSidecar(ctx context.Context, pod *corev1.Pod) (envoy *Envoy, reason string) {
	answers, err := r.Sidecars.Read(ctx, pod)
	if err == nil {
		envoy, err = parseEnvoy(answers)
	}
	switch {
	case err == nil:
		return envoy, ""
	case apierrors.IsForbidden(err):
		return nil, "not allowed to run pilot-agent in pod " + namespaced(pod) + " (pods/exec)"
	default:
		return nil, fmt.Sprintf("cannot read the sidecar of pod %s: %s", namespaced(pod), strings.ReplaceAll(err.Error(),
			"\n", " "))
	}
}

// Exec reads sidecars by pods/exec: pilot-agent queries the admin interface of its Envoy.
type Exec struct {
	Config *rest.Config
	Client kubernetes.Interface

	mu      sync.Mutex
	refused map[string]error // by namespace; nil if the user may run commands in pods
}

// execTimeout is for all requests to a sidecar.
const execTimeout = 10 * time.Second

// Read implements SidecarReader.
func (e *Exec) Read(ctx context.Context, pod *corev1.Pod) (map[string][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	if err := e.allowed(ctx, pod.Namespace); err != nil {
		return nil, err
	}
	answers := map[string][]byte{}
	errs := make([]error, len(dumps))
	var group sync.WaitGroup
	var mu sync.Mutex
	for i, d := range dumps {
		group.Go(func() {
			text, err := e.request(ctx, pod, d.path)
			mu.Lock()
			defer mu.Unlock()
			answers[d.file], errs[i] = text, err
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// allowed returns a Forbidden error if the user may not run commands in pods of the namespace. The executors return the
// refusal as text only.
func (e *Exec) allowed(ctx context.Context, namespace string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err, known := e.refused[namespace]; known {
		return err
	}
	review, err := e.Client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx,
		&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: namespace, Verb: "create", Resource: "pods", Subresource: "exec",
			},
		}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if !review.Status.Allowed {
		err = apierrors.NewForbidden(schema.GroupResource{Resource: "pods/exec"}, "", errors.New(review.Status.Reason))
	}
	if e.refused == nil {
		e.refused = map[string]error{}
	}
	e.refused[namespace] = err
	return err
}

func (e *Exec) request(ctx context.Context, pod *corev1.Pod, path string) ([]byte, error) {
	url := e.Client.CoreV1().RESTClient().Post().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).
		SubResource("exec").VersionedParams(&corev1.PodExecOptions{
		Container: proxyContainer,
		Command:   []string{"pilot-agent", "request", "GET", path},
		Stdout:    true,
		Stderr:    true,
	}, scheme.ParameterCodec).URL()
	websocket, err := remotecommand.NewWebSocketExecutor(e.Config, "GET", url.String())
	if err != nil {
		return nil, err
	}
	spdy, err := remotecommand.NewSPDYExecutor(e.Config, "POST", url)
	if err != nil {
		return nil, err
	}
	// As kubectl does, for API servers and proxies without WebSocket. The error of SPDY has the status of a refusal.
	executor, err := remotecommand.NewFallbackExecutor(websocket, spdy, func(error) bool { return ctx.Err() == nil })
	if err != nil {
		return nil, err
	}
	var out, errOut bytes.Buffer
	if err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut}); err != nil {
		return nil, errors.Join(err, errorText(errOut.String()))
	}
	return out.Bytes(), nil
}

func errorText(text string) error {
	if text = strings.TrimSpace(text); text == "" {
		return nil
	}
	return errors.New(text)
}

// Files reads the answers of sidecars from files: DIR/NAMESPACE/POD/config_dump.json and the others.
type Files struct{ Dir string }

// Read implements SidecarReader.
func (f Files) Read(_ context.Context, pod *corev1.Pod) (map[string][]byte, error) {
	answers := map[string][]byte{}
	for _, d := range dumps {
		text, err := os.ReadFile(filepath.Join(f.Dir, pod.Namespace, pod.Name, d.file))
		if err != nil {
			return nil, err
		}
		answers[d.file] = text
	}
	return answers, nil
}
