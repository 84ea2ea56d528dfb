package bed

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// components are the paths of what the bed runs. What istiod does without is empty where it is missing:
// whoever runs it asks need first.
type components struct {
	mesh                               string // directory of `make mesh`
	istiod, agent, adsdump, analyze    string
	envoy, bootstrap, charts           string
	redisServer, redisCLI, ip, tcpdump string
	iptables, nginx, curl              string
}

var istioVersion = regexp.MustCompile(`(?m)^\s*istio\.io/istio (v\S+)$`)

// findComponents returns an error of ErrMissing that names the first component that is not there and
// without which there is no bed.
func findComponents(root string) (*components, error) {
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("%w: the right to make network namespaces and to become other users (run as root)", ErrMissing)
	}
	probe := []string{"unshare", "--net", "--mount", "--pid", "--fork", "setpriv", "--reuid", "1337", "--regid", "1337", "--clear-groups", "true"}
	if out, err := exec.Command(probe[0], probe[1:]...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: the right to make namespaces and to become other users (%s: %w: %s)", ErrMissing, strings.Join(probe, " "), err, bytes.TrimSpace(out))
	}
	gomod, err := os.ReadFile(filepath.Join(root, "test", "mesh", "go.mod"))
	if err != nil {
		return nil, fmt.Errorf("finding Istio's version: %w", err)
	}
	m := istioVersion.FindSubmatch(gomod)
	if m == nil {
		return nil, fmt.Errorf("finding Istio's version: test/mesh/go.mod requires no istio.io/istio")
	}
	c := &components{mesh: filepath.Join(root, "bin", "mesh-"+string(m[1]))}
	for name, path := range map[string]*string{
		"istiod": &c.istiod, "pilot-agent": &c.agent, "adsdump": &c.adsdump, "istio-analyze": &c.analyze,
		"envoy_bootstrap.json": &c.bootstrap, "charts": &c.charts,
	} {
		*path = filepath.Join(c.mesh, name) // not where a link leads: the name is what the binary goes by
		if _, err := os.Stat(*path); err != nil {
			return nil, fmt.Errorf("%w: %s is not in %s: run `make mesh` (once; some minutes)", ErrMissing, name, c.mesh)
		}
	}
	// An error leaves the path empty.
	c.envoy, _ = filepath.EvalSymlinks(filepath.Join(c.mesh, "envoy"))
	for name, path := range map[string]*string{
		"redis-server": &c.redisServer, "redis-cli": &c.redisCLI, "ip": &c.ip, "tcpdump": &c.tcpdump, "iptables": &c.iptables,
		"nginx": &c.nginx, "curl": &c.curl,
	} {
		*path, _ = exec.LookPath(name)
	}
	if err := need("ip", c.ip); err != nil {
		return nil, err
	}
	binaries, err := filepath.Glob(filepath.Join(root, "bin", "controlplane-*", "kube-apiserver"))
	if err != nil || len(binaries) == 0 && os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return nil, fmt.Errorf("%w: the control plane: run `make control-plane` (once; some minutes)", ErrMissing)
	}
	return c, nil
}

// need returns an error of ErrMissing where the component of that name was not found.
func need(name, path string) error {
	if path == "" {
		return fmt.Errorf("%w: %s is not on this machine: run `make mesh wire-tools`", ErrMissing, name)
	}
	return nil
}
