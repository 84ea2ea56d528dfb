package integration

import (
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// TestHelmTest runs `helm test`, of which only the kubelet is missing. It passes with the webhook and the injector.
// Without the webhook it reports what is missing. It leaves no objects, and its account can do nothing else.
func TestHelmTest(t *testing.T) {
	c := start(t, setup{values: map[string]any{"policy": map[string]any{
		"allowedHosts": []any{"*.example.com"},
		"allowedPorts": []any{"6380-6390"},
	}}})
	binary, err := c.Build(t.Context(), "./cmd/webhook", false)
	c.must(err)
	c.must(c.WaitForNamespace(t.Context(), "default"))

	output, err := c.RunTest(t.Context(), c.release, binary)
	if err != nil || strings.Count(output, "\nok  ") != 2 || !strings.HasPrefix(output, "ok ") {
		t.Fatalf("on a complete installation: %v\n%s", err, output)
	}
	pods, err := c.Clientset.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
	c.must(err)
	if len(pods.Items) > 0 {
		t.Errorf("pods remain: %v", pods.Items)
	}

	c.webhook.Kill()
	output, err = c.RunTest(t.Context(), c.release, binary)
	if failed := regexp.MustCompile(`(?m)^FAILED  .*"annotated\.pods\.redis-tls\.internal"`); err == nil ||
		!failed.MatchString(output) ||
		strings.Count("\n"+output, "\nok  ") != 1 { // the pod that opts out
		t.Errorf("without the webhook: %v\n%s", err, output)
	}

	// While the test runs, its account has the right to create pods, and a policy limits it to dry-runs.
	c.must(c.ApplyObjects(t.Context(), c.release.Namespace, c.release.HooksOf("test")...))
	config, err := c.ServiceAccountConfig(t.Context(), c.release.Namespace, "redis-tls-test")
	c.must(err)
	account, err := kubernetes.NewForConfig(config)
	c.must(err)
	create := func(dryRun ...string) error {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "real-"},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: "a"}}},
		}
		_, err := account.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{DryRun: dryRun})
		return err
	}
	c.must(create(metav1.DryRunAll))
	if err := create(); err == nil || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy 'redis-tls-test'") {
		t.Errorf("creating a pod without dry run: %v", err)
	}
}
