package bed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// components are the paths of what the bed runs.
type components struct {
	mesh                               string // directory of `make mesh`
	istiod, agent, adsdump, analyze    string
	envoy, bootstrap, charts           string
	redisServer, redisCLI, ip, tcpdump string
}

var istioVersion = regexp.MustCompile(`(?m)^\s*istio\.io/istio (v\S+)$`)

// findComponents returns an error of ErrMissing that names the first component that is not there.
func findComponents(root string) (*components, error) {
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("%w: the right to make network namespaces and to become other users (run as root)", ErrMissing)
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
		"istiod": &c.istiod, "pilot-agent": &c.agent, "adsdump": &c.adsdump, "istio-analyze": &c.analyze, "envoy": &c.envoy,
		"envoy_bootstrap.json": &c.bootstrap, "charts": &c.charts,
	} {
		if *path, err = filepath.EvalSymlinks(filepath.Join(c.mesh, name)); err != nil {
			return nil, fmt.Errorf("%w: %s is not in %s: run `make mesh` (once; some minutes)", ErrMissing, name, c.mesh)
		}
		if name != "envoy" {
			*path = filepath.Join(c.mesh, name) // the name is what the binary goes by
		}
	}
	for name, path := range map[string]*string{"redis-server": &c.redisServer, "redis-cli": &c.redisCLI, "ip": &c.ip, "tcpdump": &c.tcpdump} {
		if *path, err = exec.LookPath(name); err != nil {
			return nil, fmt.Errorf("%w: the command %s", ErrMissing, name)
		}
	}
	for _, name := range []string{"iptables", "iptables-restore", "setpriv", "unshare"} {
		if _, err := exec.LookPath(name); err != nil {
			return nil, fmt.Errorf("%w: the command %s", ErrMissing, name)
		}
	}
	binaries, err := filepath.Glob(filepath.Join(root, "bin", "controlplane-*", "kube-apiserver"))
	if err != nil || len(binaries) == 0 && os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return nil, fmt.Errorf("%w: the control plane: run `make control-plane` (once; some minutes)", ErrMissing)
	}
	return c, nil
}
