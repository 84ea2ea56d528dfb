package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// tree is a copy of the repository that mutants are applied to.
type tree struct {
	dir  string
	root string // of the repository itself
}

// newTree copies all files of a build. It links bin/, which has the control plane.
func newTree(root string) (*tree, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "redis-tls-mutants-")
	if err != nil {
		return nil, err
	}
	t := &tree{dir, root}
	if err := t.copy(); err != nil {
		t.remove()
		return nil, err
	}
	return t, os.Symlink(filepath.Join(root, "bin"), filepath.Join(dir, "bin"))
}

// copy does not use git, which refuses a directory of another user.
func (t *tree) copy() error {
	return filepath.WalkDir(t.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(t.root, path)
		if err != nil {
			return err
		}
		target := filepath.Join(t.dir, name)
		switch {
		case slices.Contains([]string{".git", ".cache", "bin"}, name):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir():
			return os.MkdirAll(target, 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, info.Mode().Perm())
	})
}

func (t *tree) remove() { os.RemoveAll(t.dir) }

// apply takes the mutant's safeguard out of the tree. The returned function restores the file.
func (t *tree) apply(m mutant) (restore func(), err error) {
	path := filepath.Join(t.dir, filepath.FromSlash(m.File))
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.label(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.label(), err)
	}
	mutated, err := m.in(string(text))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, []byte(mutated), info.Mode().Perm()); err != nil {
		return nil, fmt.Errorf("%s: %w", m.label(), err)
	}
	return func() {
		if err := os.WriteFile(path, text, info.Mode().Perm()); err != nil {
			panic(fmt.Sprintf("restoring after %s: %s", m.label(), err))
		}
	}, nil
}

// test runs tests of the mutant's package and tier. It switches vet off, because its findings in a mutant do not
// matter, and garbage collection in the compiler and the linker, which take most of the time.
func (t *tree) test(ctx context.Context, m mutant, pattern string, more ...string) ([]byte, error) {
	args := []string{"test", "-count=1", "-failfast", "-vet=off", "-run", pattern}
	env := append(os.Environ(), "GOGC=400")
	switch m.Tier {
	case "unit":
		args = append(args, "-timeout=2m")
	case "integration":
		args = append(args, "-timeout=15m", "-exec", filepath.Join(t.dir, "test", "harness", "own-network.sh"))
	case "e2e":
		args = append(args, "-timeout=30m")
		env = append(env, "E2E=required")
	}
	args = append(args, more...)
	module, pkg := t.module(m.pkg())
	c := exec.CommandContext(ctx, "go", append(args, pkg)...)
	c.Dir, c.Env = module, env
	// An interrupted test stops what it started. A killed one could not.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGINT) }
	c.WaitDelay = time.Minute
	return c.CombinedOutput()
}

// module returns the directory of the module that a package is in, and the package as seen from there.
func (t *tree) module(pkg string) (dir, inside string) {
	pkg = filepath.Clean(pkg)
	for dir := pkg; dir != "."; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(t.dir, dir, "go.mod")); err == nil {
			return filepath.Join(t.dir, dir), "." + strings.TrimPrefix(pkg, dir)
		}
	}
	return t.dir, "./" + pkg
}
