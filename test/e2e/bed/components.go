package bed

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/redis-tls/redis-tls/test/harness"
)

// components are the paths of the programs that the bed runs. One that istiod does not need is empty if it is missing:
// call [need] before it is run.
type components struct {
	mesh                               string // directory of `make mesh`
	istiod, agent, adsdump, analyze    string
	envoy, bootstrap, charts           string
	redisServer, redisCLI, ip, tcpdump string
	iptables, nginx, curl              string
}

var istioVersion = regexp.MustCompile(`(?m)^\s*istio\.io/istio (v\S+)$`)

// Check returns an error of [ErrMissing] for the first component that is not on this machine: of those that every bed
// needs, and of those named, as in "tcpdump".
func Check(names ...string) error {
	root, err := harness.ModuleRoot()
	if err != nil {
		return err
	}
	c, err := findComponents(root)
	if err != nil {
		return err
	}
	for _, name := range names {
		path, known := c.optional()[name]
		if !known {
			return fmt.Errorf("there is no component %q", name)
		}
		if err := need(name, *path); err != nil {
			return err
		}
	}
	return nil
}

// optional are the components that only some hosts and pods need, by name.
func (c *components) optional() map[string]*string {
	return map[string]*string{
		"envoy": &c.envoy, "redis-server": &c.redisServer, "redis-cli": &c.redisCLI, "tcpdump": &c.tcpdump,
		"iptables": &c.iptables, "nginx": &c.nginx, "curl": &c.curl,
	}
}

// findComponents returns an error of [ErrMissing] for the first missing component that every bed needs.
func findComponents(root string) (*components, error) {
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("%w: network namespaces require root", ErrMissing)
	}
	// Root in a user namespace must not become another user.
	probe := strings.Fields("unshare --net --mount --pid --fork setpriv --reuid 1337 --regid 1337 --clear-groups true")
	if out, err := exec.Command(probe[0], probe[1:]...).CombinedOutput(); err != nil {
		const rule = "network namespaces and other user IDs require root"
		return nil, fmt.Errorf("%w: %s (%s)", ErrMissing, rule, bytes.TrimSpace(out))
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
	if dir := os.Getenv("MESH_ASSETS"); dir != "" { // another version
		c.mesh = dir
	}
	for name, path := range map[string]*string{
		"istiod": &c.istiod, "pilot-agent": &c.agent, "adsdump": &c.adsdump, "istio-analyze": &c.analyze,
		"envoy_bootstrap.json": &c.bootstrap, "charts": &c.charts,
	} {
		*path = filepath.Join(c.mesh, name) // a link to one binary, which runs as the name of the link
		if _, err := os.Stat(*path); err != nil {
			return nil, fmt.Errorf("%w: %s is not in %s: run `make mesh` (once; some minutes)", ErrMissing, name, c.mesh)
		}
	}
	// If one is missing, its path stays empty.
	for name, path := range c.optional() {
		*path, _ = exec.LookPath(name)
	}
	c.ip, _ = exec.LookPath("ip")
	c.envoy, _ = filepath.EvalSymlinks(filepath.Join(c.mesh, "envoy"))
	if err := need("ip", c.ip); err != nil {
		return nil, err
	}
	binaries, err := filepath.Glob(filepath.Join(root, "bin", "controlplane-*", "kube-apiserver"))
	if err != nil || len(binaries) == 0 && os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return nil, fmt.Errorf("%w: the control plane: run `make control-plane` (once; some minutes)", ErrMissing)
	}
	return c, nil
}

// need returns an error of [ErrMissing] if the component of that name was not found.
func need(name, path string) error {
	if path == "" {
		return fmt.Errorf("%w: %s is not on this machine: run `make mesh wire-tools`", ErrMissing, name)
	}
	return nil
}
