package integration

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/redis-tls/redis-tls/test/catalog"
)

// TestProbeFromAPod runs `redis-tls probe --from` against the API server, with the webhook, its policies and Pod
// Security. No kubelet runs the ephemeral container: a stand-in executes its command and serves its log.
func TestProbeFromAPod(t *testing.T) {
	c := start(t, setup{})
	messages := catalog.Open(t)
	binary, err := c.Build(t.Context(), "./cmd/redis-tls", false)
	c.must(err)
	kubelet := newKubelet(c, binary)
	redis := newTLSServer(t)
	ns := c.namespace("probed", nil, nil)
	restricted := c.namespace("restricted", map[string]string{
		"istio-injection": "disabled", "pod-security.kubernetes.io/enforce": "restricted",
	}, nil)

	probe := func(t *testing.T, ns, pod string, args ...string) (string, int) {
		t.Helper()
		args = append([]string{
			"probe", "example.com:" + redis.port, "--ca", redis.ca, "--kubeconfig", c.Kubeconfig,
			"-n", ns, "--from", "pod/" + pod, "--image", "registry.example.com/redis-tls:1", "-o", "short",
		}, args...)
		command := exec.CommandContext(t.Context(), binary, args...)
		out, err := command.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(out), command.ProcessState.ExitCode()
	}
	says := func(t *testing.T, out string) {
		messages.Add(t.Name()[strings.Index(t.Name(), "/")+1:], strings.TrimSpace(kubelet.normalise(out, redis.port)))
	}

	t.Run("an injected pod", func(t *testing.T) {
		c := c.on(t)
		p := kubelet.run(c, pod(ns, "cart", requesting()))
		out, code := probe(t, ns, "cart", "--address", redis.address)
		if code != 0 || !strings.Contains(out, `redis-tls/host: "example.com"`) {
			t.Errorf("status %d: %s", code, out)
		}
		says(t, out)
		containers := c.live(p).Spec.EphemeralContainers
		if len(containers) != 1 {
			t.Fatalf("%d ephemeral containers, want 1", len(containers))
		}
		e := containers[0]
		s := e.SecurityContext
		if ptr.Deref(s.RunAsUser, 0) != 1337 || ptr.Deref(s.AllowPrivilegeEscalation, true) || len(s.Capabilities.Add) > 0 {
			t.Errorf("security context %+v", s)
		}
		if text := strings.Join(e.Command, " "); strings.Contains(text, redis.ca) ||
			!strings.HasPrefix(text, "redis-tls probe -o json") {
			t.Errorf("command %s", text)
		}
	})
	t.Run("a pod under Pod Security restricted", func(t *testing.T) {
		c := c.on(t)
		p := pod(restricted, "cart", nil)
		p.Spec.SecurityContext = &corev1.PodSecurityContext{
			RunAsNonRoot: ptr.To(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		}
		p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		}
		kubelet.run(c, p)
		if out, code := probe(t, restricted, "cart", "--address", redis.address); code != 0 {
			t.Errorf("status %d: %s", code, out)
		}
	})
	for _, f := range []struct {
		name   string
		args   []string
		change func(p *corev1.Pod) // of the pod before it is created
		status func(p *corev1.Pod) // by the kubelet
	}{
		{
			name:   "no container starts in time",
			args:   []string{"--wait", "1s"},
			status: func(*corev1.Pod) {},
		},
		{
			name: "the image cannot be pulled",
			status: func(p *corev1.Pod) {
				p.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{
					Name: p.Spec.EphemeralContainers[0].Name,
					State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
						Reason: "ImagePullBackOff", Message: "Back-off pulling image",
					}},
				}}
			},
		},
		{
			name: "the user may not add a container",
			args: []string{"--as", "somebody", "--as-group", "viewers"},
		},
		{
			name: "the pod does not exist",
			args: []string{"--from", "pod/none"},
		},
		{
			name:   "the pod is in ambient mode",
			change: func(p *corev1.Pod) { p.Annotations = map[string]string{"ambient.istio.io/redirection": "enabled"} },
		},
		{
			name: "the pod resolves the host to a VIP",
			change: func(p *corev1.Pod) {
				p.Spec.HostAliases = []corev1.HostAlias{{IP: "251.1.2.3", Hostnames: []string{"example.com"}}}
			},
		},
	} {
		t.Run(f.name, func(t *testing.T) {
			c := c.on(t)
			name := strings.ReplaceAll(f.name, " ", "-")
			ns := c.namespace("probed-"+strings.ToLower(name), map[string]string{"istio-injection": "disabled"}, nil)
			p := pod(ns, "cart", nil)
			if f.change != nil {
				f.change(p)
			}
			kubelet.status = f.status
			defer func() { kubelet.status = nil }()
			kubelet.run(c, p)
			out, code := probe(t, ns, "cart", f.args...)
			if code != 1 {
				t.Errorf("status %d, want 1: %s", code, out)
			}
			says(t, strings.ReplaceAll(out, ns, "shop"))
		})
	}
}

// tlsServer answers PONG in TLS to everything.
type tlsServer struct{ address, port, ca string }

func newTLSServer(t *testing.T) tlsServer {
	t.Helper()
	https := httptest.NewTLSServer(nil) // for its certificate, whose name is example.com
	defer https.Close()
	l, err := tls.Listen("tcp", "127.77.0.1:0", &tls.Config{Certificates: https.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for b := make([]byte, 512); ; {
					if _, err := conn.Read(b); err != nil {
						return
					}
					if _, err := io.WriteString(conn, "+PONG\r\n"); err != nil {
						return
					}
				}
			}()
		}
	}()
	address, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.crt")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: https.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return tlsServer{address, port, ca}
}

// kubelet stands in for the kubelet of one node: it executes the command of each ephemeral container, and serves its
// output as the log.
type kubelet struct {
	binary string
	mu     sync.Mutex
	logs   map[string][]byte // by path
	// status sets the status of a pod with an ephemeral container, instead of executing it.
	status func(p *corev1.Pod)
}

const nodeName = "probed-node"

func newKubelet(c *cluster, binary string) *kubelet {
	c.t.Helper()
	k := &kubelet{binary: binary, logs: map[string][]byte{}}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		defer k.mu.Unlock()
		log, ok := k.logs[strings.TrimPrefix(r.URL.Path, "/containerLogs/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(log) // the client has gone
	}))
	c.t.Cleanup(server.Close)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}
	c.must(c.Client.Create(c.t.Context(), node))
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(server.Listener.Addr().(*net.TCPAddr).Port)
	c.must(c.Client.Status().Update(c.t.Context(), node))
	return k
}

// run creates the pod on the node, running, and serves its ephemeral container until the test ends.
func (k *kubelet) run(c *cluster, p *corev1.Pod) *corev1.Pod {
	c.t.Helper()
	p.Spec.NodeName = nodeName
	p = c.admitted(p)
	p.Status.Phase = corev1.PodRunning
	c.must(c.Client.Status().Update(c.t.Context(), p))
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan struct{})
	status := k.status
	go func() {
		defer close(done)
		events, err := c.Clientset.CoreV1().Pods(p.Namespace).Watch(ctx, metav1.ListOptions{
			FieldSelector: "metadata.name=" + p.Name,
		})
		if err != nil {
			return
		}
		defer events.Stop()
		for event := range events.ResultChan() {
			live, ok := event.Object.(*corev1.Pod)
			if !ok || len(live.Spec.EphemeralContainers) == 0 || len(live.Status.EphemeralContainerStatuses) > 0 {
				continue
			}
			if status != nil {
				status(live)
			} else {
				k.execute(ctx, live)
			}
			// A conflict is followed by another event.
			_, _ = c.Clientset.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, live, metav1.UpdateOptions{})
		}
	}()
	c.t.Cleanup(func() { cancel(); <-done })
	return p
}

// execute executes the command of the ephemeral container.
func (k *kubelet) execute(ctx context.Context, p *corev1.Pod) {
	e := p.Spec.EphemeralContainers[0]
	command := exec.CommandContext(ctx, k.binary, e.Command[1:]...)
	command.Env = []string{"HOME=/"}
	out, _ := command.CombinedOutput() // its status is below
	k.mu.Lock()
	k.logs[fmt.Sprintf("%s/%s/%s", p.Namespace, p.Name, e.Name)] = out
	k.mu.Unlock()
	p.Status.EphemeralContainerStatuses = []corev1.ContainerStatus{{
		Name: e.Name,
		State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: int32(command.ProcessState.ExitCode()),
		}},
	}}
}

// normalise replaces what differs between runs.
func (k *kubelet) normalise(text, port string) string {
	at := strings.Index(text, "redis-tls-probe-")
	for ; at >= 0; at = strings.Index(text, "redis-tls-probe-") {
		text = text[:at] + "redis-tls_probe-x" + text[at+len("redis-tls-probe-12345"):]
	}
	return strings.ReplaceAll(strings.ReplaceAll(text, "redis-tls_probe-x", "redis-tls-probe-x"), port, "PORT")
}
