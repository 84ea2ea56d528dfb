package harness

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// These tests run the real components. They prove that a test that fails, or a demo that is interrupted, leaves nothing
// on the machine.

func TestControlPlane(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	ctx := t.Context()
	c, err := Start(ctx, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
		wantNothingLeft(t, os.Getpid())
	})

	t.Run("takes pods in a new namespace", func(t *testing.T) {
		if err := c.Namespace(ctx, "smoke", nil, nil); err != nil {
			t.Fatal(err)
		}
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "smoke", Name: "app"},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
		}
		if err := c.Client.Create(ctx, pod); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("lists keys of etcd", func(t *testing.T) {
		keys, err := c.EtcdKeys(ctx, "/registry/pods/smoke/")
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) != 1 || keys[0].Key != "/registry/pods/smoke/app" || keys[0].ModRevision == 0 {
			t.Errorf("got %+v, want one pod", keys)
		}
	})
	t.Run("lets a service account and a user do what RBAC allows, which is nothing", func(t *testing.T) {
		config, err := c.ServiceAccountConfig(ctx, "smoke", "default")
		if err != nil {
			t.Fatal(err)
		}
		path, err := c.WriteKubeconfig("smoke", config)
		if err != nil {
			t.Fatal(err)
		}
		for who, flag := range map[string]string{
			"system:serviceaccount:smoke:default": "--kubeconfig=" + path,
			`"anna"`:                              "--as=anna",
		} {
			_, stderr, err := c.Kubectl(ctx, nil, flag, "get", "pods", "--namespace=smoke")
			if err == nil || !strings.Contains(stderr, who) {
				t.Errorf("kubectl %s: got %v %q, want a refusal that names %s", flag, err, stderr, who)
			}
		}
	})
	t.Run("serves Istio's kinds, and takes them away again", func(t *testing.T) {
		if err := c.InstallIstioCRDs(ctx); err != nil {
			t.Fatal(err)
		}
		if err := c.Client.List(ctx, &networkingv1.ServiceEntryList{}); err != nil {
			t.Error(err)
		}
		if err := c.RemoveIstioCRDs(ctx); err != nil {
			t.Fatal(err)
		}
	})
	for _, native := range []bool{false, true} {
		t.Run(fmt.Sprintf(
			"injects a sidecar (native: %t) where Istio's selectors match, and not elsewhere", native,
		), func(t *testing.T) {
			testInjector(t, c, native)
		})
	}
	t.Run("applies the chart as rendered", func(t *testing.T) {
		release, err := c.RenderChart(map[string]any{"replicaCount": 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Apply(ctx, release); err != nil {
			t.Fatal(err)
		}
		if err := c.Delete(ctx, release); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("continues after each component was paused, killed and started again", func(t *testing.T) {
		if err := c.Etcd.Pause(); err != nil {
			t.Fatal(err)
		}
		if err := c.Etcd.Resume(); err != nil {
			t.Fatal(err)
		}
		for _, restart := range []func(context.Context) error{c.RestartEtcd, c.RestartAPIServer, c.RestartControllerManager} {
			if err := restart(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Namespace(ctx, "after", nil, nil); err != nil {
			t.Fatal(err)
		}
	})
}

func testInjector(t *testing.T, c *ControlPlane, native bool) {
	ctx := t.Context()
	injector, err := c.RunSidecarInjector(ctx, InjectorOptions{Native: native})
	if err != nil {
		t.Fatal(err)
	}
	for label, want := range map[string]bool{"true": true, "false": false, "": false} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace:    "smoke",
				GenerateName: "app-",
				Labels:       map[string]string{},
				Annotations: map[string]string{
					userVolumeAnnotation: `{"mine": {"emptyDir": {}}}`,
					userMountAnnotation:  `[{"name": "mine", "mountPath": "/mine"}]`,
				},
			},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
		}
		if label != "" {
			pod.Labels[injectKey] = label
		}
		if err := c.Client.Create(ctx, pod); err != nil {
			t.Fatal(err)
		}
		containers := pod.Spec.Containers
		if native {
			containers = pod.Spec.InitContainers
		}
		i := slices.IndexFunc(containers, func(c corev1.Container) bool { return c.Name == proxyContainer })
		if got := i >= 0; got != want {
			t.Errorf("label %q: sidecar %t, want %t", label, got, want)
		}
		if want &&
			!slices.ContainsFunc(containers[i].VolumeMounts, func(m corev1.VolumeMount) bool {
				return m.Name == "mine" &&
					m.MountPath == "/mine"
			}) {
			t.Errorf("the user's mount is missing: %v", containers[i].VolumeMounts)
		}
	}
	if err := injector.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	_, err := Start(t.Context(), Options{APIServerArgs: []string{"--no-such-flag"}})
	if err == nil || !strings.Contains(err.Error(), "unknown flag: --no-such-flag") {
		t.Errorf("got %v, want the output of kube-apiserver", err)
	}
	wantNothingLeft(t, os.Getpid())
}

// killedVariable makes TestKilledHarness the harness that is killed.
const killedVariable = "HARNESS_TEST_START_AND_WAIT"

func TestKilledHarness(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	if os.Getenv(killedVariable) != "" {
		if _, err := Start(t.Context(), Options{}); err != nil {
			t.Fatal(err)
		}
		fmt.Println("serving")
		select {}
	}
	t.Run("an interrupted process cleans up after itself", func(t *testing.T) {
		pid := startAndEnd(t, os.Interrupt)
		wantNothingLeft(t, pid)
	})
	t.Run("a killed process takes its components along, and the next start removes what it had made", func(t *testing.T) {
		pid := startAndEnd(t, os.Kill)
		if len(made(t, pid)) == 0 {
			t.Error("nothing remains, so the test proves nothing")
		}
		err := Eventually(t.Context(), startTimeout, "the components to be gone", func(context.Context) error {
			if remaining := processes(t, pid); len(remaining) > 0 {
				return fmt.Errorf("%v", remaining)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		c, err := Start(t.Context(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantNothingLeft(t, pid)
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// startAndEnd starts a control plane in another process, ends it with the signal and returns its id.
func startAndEnd(t *testing.T, signal os.Signal) (pid int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledHarness$")
	cmd.Env = append(os.Environ(), killedVariable+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("serving"))
	if _, err := out.Read(line); err != nil || string(line) != "serving" {
		t.Fatalf("got %q %v, want a line that it serves", line, err)
	}
	if err := cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Errorf("ended without an error, want the end by %s", signal)
	}
	return cmd.Process.Pid
}

// wantNothingLeft fails if a process, network device or temporary directory of a harness of the process remains.
func wantNothingLeft(t *testing.T, pid int) {
	t.Helper()
	if remaining := append(processes(t, pid), made(t, pid)...); len(remaining) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(remaining, "\n"))
	}
}

// processes lists the components that a harness of the process started. They have its directory in their arguments.
func processes(t *testing.T, pid int) []string {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, path := range paths {
		cmdline, err := os.ReadFile(path) // an error means that it has ended
		if err == nil && strings.Contains(string(cmdline), fmt.Sprintf("/redis-tls-%d-", pid)) {
			found = append(found, strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return found
}

// made lists the network devices and directories that a harness of the process created.
func made(t *testing.T, pid int) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(os.TempDir(), fmt.Sprintf("redis-tls-%d-*", pid)))
	if err != nil {
		t.Fatal(err)
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		if strings.HasPrefix(i.Name, fmt.Sprintf("rtls%dx", pid)) {
			found = append(found, i.Name)
		}
	}
	return found
}
