package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// shell is a block of commands with the comment before it.
var shell = regexp.MustCompile("(?ms)^(?:<!-- ([^\n]*) -->\n)?```sh\n(.*?)^```$")

// TestGettingStarted runs the commands of docs/getting-started.md that are marked as tested, in their order and in one
// shell, as a reader does. Each other block must say why it is not tested.
func TestGettingStarted(t *testing.T) {
	t.Chdir("../..")
	script := "set -euo pipefail\n"
	tested, blocks := 0, shell.FindAllStringSubmatch(read(t, "docs/getting-started.md"), -1)
	for _, m := range blocks {
		switch marker, commands := m[1], m[2]; {
		case marker == "tested":
			tested++
			script += commands
		case !strings.HasPrefix(marker, "not tested"), len(marker) < len("not tested: why"):
			t.Errorf("neither <!-- tested --> nor <!-- not tested: REASON --> stands before this block:\n%s", commands)
		}
	}
	if tested < 4 || len(blocks) < 8 {
		t.Fatalf("%d of %d blocks are tested", tested, len(blocks))
	}
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatalf("%v: the page needs openssl; make unit installs it", err)
	}
	bin := t.TempDir()
	t.Cleanup(func() { os.RemoveAll("bin/getting-started") })
	bash := exec.Command("bash", "-c", script)
	bash.Env = append(os.Environ(), "GOBIN="+bin, "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	out, err := bash.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for _, want := range []string{
		"+        redis-tls/vips: redis-a.example-project.aivencloud.com=",
		`metadata.annotations[redis-tls/hots]`,
		"bin/getting-started/tls.crt: OK",
		"+        redis-tls/vips: redis.example.test=",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the commands do not print %q:\n%s", want, out)
		}
	}
}
