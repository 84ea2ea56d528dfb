package bed

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/redis-tls/redis-tls/test/harness"
)

// Exec runs a command as an app container of the pod does, and returns its output.
func (p *Pod) Exec(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return p.command(ctx, nil, asApp(args...)...)
}

// ExecAsProxy runs a command as the user of the sidecar, whose connections are not captured, and returns its output.
func (p *Pod) ExecAsProxy(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	user := []string{"setpriv", "--reuid", "1337", "--regid", "1337", "--clear-groups"}
	return p.command(ctx, nil, append(user, args...)...)
}

// Subscribe starts redis-cli as the app. It stays connected and writes what is published to its log.
func (p *Pod) Subscribe(host string, port int, channel string) (*harness.Process, error) {
	return p.Start("subscriber", p.bed.components.redisCLI, "-h", host, "-p", fmt.Sprint(port), "SUBSCRIBE", channel)
}

// Start starts a command as an app container of the pod would. The name is for messages.
func (p *Pod) Start(name string, args ...string) (*harness.Process, error) {
	s := p.Host.process(name, nil, asApp(args...)...)
	return s, s.Start()
}

// asApp is a command line as the user of an app container: one whose connections are captured.
func asApp(args ...string) []string {
	return append([]string{"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"}, args...)
}

// Redis runs redis-cli as the app, within 3 seconds, and returns the server's answer.
func (p *Pod) Redis(ctx context.Context, host string, port int, args ...string) (string, error) {
	return p.Exec(ctx, append([]string{
		"timeout",
		"3",
		p.bed.components.redisCLI,
		"-h",
		host,
		"-p",
		fmt.Sprint(port),
	}, args...)...)
}

// Envoy queries the admin interface of the pod's Envoy with a command of pilot-agent.
func (p *Pod) Envoy(ctx context.Context, path string) (string, error) {
	return p.command(ctx, nil, p.bed.components.agent, "request", "GET", path)
}

func (p *Pod) command(ctx context.Context, env []string, args ...string) (string, error) {
	command := p.Host.command(args...)
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append([]string{"HOME=/", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
	out := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	return strings.TrimSpace(out.String()), err
}
