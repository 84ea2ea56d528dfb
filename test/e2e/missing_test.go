package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/e2e/bed"
)

// password may not be in any capture.
const password = "not-for-the-wire-either"

// authenticated returns the arguments of redis-cli for a command with the password.
func authenticated(command ...string) []string {
	return append([]string{"-a", password, "--no-auth-warning"}, command...)
}

// TestAnythingMissingNeverEndsInPlaintext: a running pod loses one part after the other. Its connection never reaches
// the server's plain port, which has the number that the app dials, and the password is never in clear. Without the VIP
// it is.
func TestAnythingMissingNeverEndsInPlaintext(t *testing.T) {
	b := mesh(t)
	const host, port = "redis-e.aivencloud.com", 16222
	redis := server(t, b, host, bed.RedisOptions{
		Port: 6379, TLSPort: port, Leaf: issue(t, b.PublicCA, []string{host}), Args: []string{"--requirepass", password},
	})
	for i, c := range []struct {
		name string
		take func(*testing.T, *bed.Pod, objects)
		// rule is the closed rule that then applies, of the key or of the namespace. TLS is sent, to a server with a name
		// that no certificate has. Without a rule nothing is sent.
		rule func(objects) string
		// exposed reports that the connection would reach the server if the host did not resolve to the VIP.
		exposed bool
		more    map[string]string
	}{
		{"the entry", func(t *testing.T, p *bed.Pod, o objects) {
			take(t, b, p, privateClusters, "outbound|6379||", o.entry)
		}, nil, true, nil},
		{"the selected rule", func(t *testing.T, p *bed.Pod, o objects) {
			take(t, b, p, privateClusters, of(o.selected.Name), o.selected)
		}, ofKey, false, nil},
		{"the selected rule and the namespace's closed one", func(t *testing.T, p *bed.Pod, o objects) {
			take(t, b, p, privateClusters, of(o.selected.Name), o.selected, o.last)
		}, ofKey, false, nil},
		{"both rules of the key", func(t *testing.T, p *bed.Pod, o objects) {
			take(t, b, p, privateClusters, of(o.selected.Name), o.selected, o.closed)
		}, ofNamespace, false, nil},
		{"both rules of the key, for a restricted pod", func(t *testing.T, p *bed.Pod, o objects) {
			take(t, b, p, privateClusters, of(o.selected.Name), o.selected, o.closed)
		}, ofNamespace, false, map[string]string{"redis-tls/sidecar": "restrict"}},
		{"the entry and all rules", func(t *testing.T, p *bed.Pod, o objects) {
			take(t, b, p, privateClusters, "outbound|6379||", o.entry, o.selected, o.closed, o.last)
		}, nil, false, nil},
		{"the sidecar", func(t *testing.T, p *bed.Pod, _ objects) {
			ok(t, p.KillSidecar(t.Context()))
		}, nil, false, nil},
		{"the capture", func(t *testing.T, p *bed.Pod, _ objects) { ok(t, p.Release(t.Context())) }, nil, true, nil},
		{"the sidecar and the capture", func(t *testing.T, p *bed.Pod, _ objects) {
			ok(t, p.KillSidecar(t.Context()))
			ok(t, p.Release(t.Context()))
		}, nil, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := namespace(t, b, fmt.Sprintf("missing-%d", i), nil, nil)
			p := run(t, b, app(ns, "app", with(host, port, c.more)))
			answers(t, p, host, 6379, "PONG", authenticated("PING")...)
			o := objectsOf(t, b, p.Pod, host)
			stall(t, b)
			c.take(t, p, o)
			if c.rule != nil {
				waitFor(t, p, privateClusters, of(c.rule(o)), true)
			}
			capture := record(t, redis)
			refused(t, p, host, 6379, authenticated("SET", "k", "v")...)
			if n := onlyAt(t, capture, port, password); (n > 0) != (c.rule != nil) {
				t.Errorf("%d connections were seen on the wire, and a closed rule applies: %v", n, c.rule != nil)
			}
			if !c.exposed {
				return
			}
			t.Run("control: without the VIP it is in plaintext", func(t *testing.T) {
				ok(t, p.DropAliases())
				capture := record(t, redis)
				answers(t, p, host, 6379, "PONG", authenticated("PING")...)
				inClear(t, capture, 6379, password)
			})
		})
	}
	t.Run("control: without all three rules the password is in clear at the TLS port", func(t *testing.T) {
		ns := namespace(t, b, "missing-rules", nil, nil)
		p := run(t, b, app(ns, "app", with(host, port)))
		answers(t, p, host, 6379, "PONG", authenticated("PING")...)
		o := objectsOf(t, b, p.Pod, host)
		stall(t, b)
		take(t, b, p, privateClusters, tls, o.selected, o.closed, o.last)
		capture := record(t, redis)
		refused(t, p, host, 6379, authenticated("SET", "k", "v")...)
		inClear(t, capture, port, password)
	})
}

// of is the text in a cluster's configuration that identifies the rule.
func of(rule string) string { return "/destination-rule/" + rule + `"` }

func ofKey(o objects) string       { return o.closed.Name }
func ofNamespace(o objects) string { return o.last.Name }

// tls is the text of a cluster with TLS in Envoy's configuration.
const tls = "envoy.transport_sockets.tls"

// inClear ends the capture, and fails if no client sent the text in plaintext to the port.
func inClear(t *testing.T, c *bed.Capture, port uint16, text string) {
	t.Helper()
	streams, err := c.Stop(t.Context(), port)
	ok(t, err)
	for _, s := range streams {
		if s.Server.Port() == port && !s.TLS() && strings.Contains(string(s.Sent), text) {
			return
		}
	}
	t.Errorf("seen on the wire: %v, want %q in plaintext at port %d", streams, text, port)
}

// TestCopyForDebugging: a copy of a pod for debugging has the hostAliases of the original, but not its labels and
// annotations. It resolves the host to the VIP, and no selected rule applies to it. Its password is not sent, and the
// original is not affected.
func TestCopyForDebugging(t *testing.T) {
	b := mesh(t)
	const host, port = "redis-copy.aivencloud.com", 16222
	ns := namespace(t, b, "copy", map[string]string{"istio-injection": "enabled"}, nil)
	redis := server(t, b, host, bed.RedisOptions{
		Port: 6379, TLSPort: port, Leaf: issue(t, b.PublicCA, []string{host}), Args: []string{"--requirepass", password},
	})
	p := run(t, b, app(ns, "app", with(host, port)))
	o := objectsOf(t, b, p.Pod, host)
	out, errs, err := b.Kubectl(
		t.Context(),
		nil,
		"-n",
		ns,
		"debug",
		"pod/app",
		"--copy-to=copy",
		"--container=app",
		"--image=redis-cli",
		"--profile=general",
		"--attach=false",
		"--",
		"sleep",
		"infinity",
	)
	if err != nil {
		t.Fatalf("kubectl debug: %v: %s%s", err, out, errs)
	}
	copied := started(t, b, ns, "copy")
	for key := range copied.Labels {
		if strings.HasPrefix(key, "redis-tls/") {
			t.Errorf("the copy has the label %s", key)
		}
	}
	if got, want := fmt.Sprint(copied.Spec.HostAliases), fmt.Sprint(p.Spec.HostAliases); got != want {
		t.Errorf("the copy has the hostAliases %s, want %s", got, want)
	}
	knows(t, copied, 6379, o.entry.Spec.Hosts[0])
	t.Run("the key's closed rule applies", func(t *testing.T) {
		capture := record(t, redis)
		answers(t, p, host, 6379, "PONG", authenticated("PING")...)
		refused(t, copied, host, 6379, authenticated("SET", "k", "v")...)
		if n := onlyAt(t, capture, port, password); n < 2 {
			t.Errorf("%d connections were seen on the wire, want one of each pod at least", n)
		}
	})
	stall(t, b)
	t.Run("without the key's rules the namespace's closed rule applies", func(t *testing.T) {
		take(t, b, copied, privateClusters, of(o.closed.Name), o.selected, o.closed)
		waitFor(t, copied, privateClusters, of(o.last.Name), true)
		capture := record(t, redis)
		refused(t, copied, host, 6379, authenticated("SET", "k", "v")...)
		if n := onlyAt(t, capture, port, password); n == 0 {
			t.Error("no handshake was seen on the wire: the connection failed for another reason")
		}
	})
	t.Run("control: without any rule the password is in clear", func(t *testing.T) {
		take(t, b, copied, privateClusters, tls, o.last)
		capture := record(t, redis)
		refused(t, copied, host, 6379, authenticated("SET", "k", "v")...)
		inClear(t, capture, port, password)
	})
}

// started starts an existing pod until the test ends.
func started(t *testing.T, b *bed.Bed, ns, name string) *bed.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	ok(t, b.Client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, pod))
	return launch(t, b, *pod)
}
