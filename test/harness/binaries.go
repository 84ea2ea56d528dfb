package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// The components, by the names of their upstream binaries.
const (
	etcdName              = "etcd"
	apiServerName         = "kube-apiserver"
	controllerManagerName = "kube-controller-manager"
	kubectlName           = "kubectl"
)

// kubernetesVersion finds the version of the control plane in test/controlplane/go.mod.
var kubernetesVersion = regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v\S+)$`)

// binaries maps the names of the components to their paths. It takes those in $KUBEBUILDER_ASSETS, if set
// (setup-envtest has no kube-controller-manager), and else those that `make control-plane` builds.
func binaries(root string) (map[string]string, error) {
	gomod, err := os.ReadFile(filepath.Join(root, "test", "controlplane", "go.mod"))
	if err != nil {
		return nil, fmt.Errorf("finding the control plane's version: %w", err)
	}
	m := kubernetesVersion.FindSubmatch(gomod)
	if m == nil {
		return nil, fmt.Errorf("finding the control plane's version: test/controlplane/go.mod requires no k8s.io/kubernetes")
	}
	dirs := []string{filepath.Join(root, "bin", "controlplane-"+string(m[1]))}
	if assets := os.Getenv("KUBEBUILDER_ASSETS"); assets != "" {
		dirs = append([]string{assets}, dirs...)
	}
	paths := map[string]string{}
	for _, name := range []string{etcdName, apiServerName, controllerManagerName, kubectlName} {
		for _, dir := range dirs {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); err == nil && !info.IsDir() && paths[name] == "" {
				paths[name] = path
			}
		}
		if paths[name] == "" {
			return nil, fmt.Errorf("%s is not in any of %v; run make control-plane", name, dirs)
		}
	}
	return paths, nil
}

// ModuleRoot returns the directory of this repository, which is the working directory or above it.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "test", "controlplane", "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("not inside the repository: no directory above has test/controlplane/go.mod")
}

// Build compiles a command of this repository ("./cmd/webhook") into the control plane's directory and
// returns its path. With race, data races end the command with an error.
func (c *ControlPlane) Build(ctx context.Context, pkg string, race bool) (string, error) {
	out := filepath.Join(c.dir, "bin", filepath.Base(pkg))
	args := []string{"build", "-buildvcs=false"}
	if race {
		out += "-race"
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "-o", out, pkg)...)
	cmd.Dir = c.root
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", pkg, err, output)
	}
	return out, nil
}
