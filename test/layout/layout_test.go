// Package layout checks which package of the module imports which.
package layout

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/redis-tls/redis-tls/"

// layers are the packages of the module that each package imports. There are no cycles: a package is above all that it
// imports.
var layers = map[string][]string{
	"internal/origination": {},
	"internal/config":      {"internal/origination"},
	"internal/annotation":  {"internal/config", "internal/origination"},
	"internal/sidecar":     {"internal/origination"},
	"patches":              {"internal/origination", "internal/sidecar"},
	"internal/mesh":        {"internal/config", "internal/origination"},
	"internal/inject": {
		"internal/annotation",
		"internal/config",
		"internal/mesh",
		"internal/origination",
		"internal/sidecar",
		"patches",
	},
	"internal/metrics": {"internal/origination"},
	"internal/cluster": {"internal/annotation", "internal/config", "internal/mesh", "internal/origination"},
	"internal/controller": {
		"internal/cluster",
		"internal/config",
		"internal/mesh",
		"internal/metrics",
		"internal/origination",
	},
	"internal/servingcert": {"internal/metrics"},
	"internal/server":      {"internal/metrics"},
	"internal/uninstall":   {"internal/cluster", "internal/controller", "internal/origination"},
	"webhook":              {"internal/config", "internal/inject", "internal/metrics", "internal/origination"},
	"cmd/webhook": {
		"internal/annotation",
		"internal/cluster",
		"internal/config",
		"internal/controller",
		"internal/inject",
		"internal/metrics",
		"internal/origination",
		"internal/server",
		"internal/servingcert",
		"internal/uninstall",
		"webhook",
	},
	"cmd/redis-tls/internal/adopt": {
		"cmd/redis-tls/internal/manifest",
		"cmd/redis-tls/internal/preview",
		"cmd/redis-tls/internal/workload",
		"internal/annotation",
		"internal/config",
		"internal/mesh",
		"internal/origination",
		"patches",
	},
	"cmd/redis-tls": {
		"cmd/redis-tls/internal/check",
		"cmd/redis-tls/internal/adopt",
		"cmd/redis-tls/internal/describe",
		"cmd/redis-tls/internal/exit",
		"cmd/redis-tls/internal/live",
		"cmd/redis-tls/internal/manifest",
		"cmd/redis-tls/internal/preview",
		"cmd/redis-tls/internal/probe",
		"cmd/redis-tls/internal/term",
		"internal/annotation",
		"internal/config",
		"internal/origination",
	},
	"cmd/redis-tls/internal/describe": {
		"cmd/redis-tls/internal/live",
		"cmd/redis-tls/internal/term",
		"internal/annotation",
		"internal/inject",
		"internal/mesh",
		"internal/origination",
	},
	"cmd/redis-tls/internal/exit": {},
	"cmd/redis-tls/internal/live": {
		"cmd/redis-tls/internal/view",
		"cmd/redis-tls/internal/workload",
		"internal/annotation",
		"internal/cluster",
		"internal/config",
		"internal/mesh",
		"internal/origination",
	},
	"cmd/redis-tls/internal/check": {
		"cmd/redis-tls/internal/live",
		"cmd/redis-tls/internal/term",
		"internal/annotation",
		"internal/config",
		"internal/inject",
		"internal/mesh",
		"internal/origination",
		"patches",
	},
	"cmd/redis-tls/internal/manifest": {},
	"cmd/redis-tls/internal/probe": {
		"internal/annotation",
		"internal/config",
		"internal/origination",
	},
	"cmd/redis-tls/internal/term":     {},
	"cmd/redis-tls/internal/view":     {"internal/annotation", "internal/mesh"},
	"cmd/redis-tls/internal/workload": {},
	"cmd/redis-tls/internal/preview": {
		"cmd/redis-tls/internal/manifest",
		"cmd/redis-tls/internal/term",
		"cmd/redis-tls/internal/view",
		"cmd/redis-tls/internal/workload",
		"internal/annotation",
		"internal/config",
		"internal/inject",
		"internal/mesh",
		"internal/origination",
	},
}

// TestLayers reads the imports of every package of the product. It fails on a package or an import that is not in the
// table, and on a row or an import that is no longer used.
func TestLayers(t *testing.T) {
	list := exec.Command(
		"go",
		"list",
		"-f",
		`{{.ImportPath}} {{join .Imports " "}}`,
		"./cmd/...",
		"./internal/...",
		"./patches/...",
		"./webhook/...",
	)
	list.Dir = "../.."
	out, err := list.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(fields[0], module)
		if strings.HasSuffix(pkg, "test") { // a builder of tests
			continue
		}
		allowed, known := layers[pkg]
		if !known {
			t.Errorf("package %s is in no layer; add it to the table", pkg)
			continue
		}
		seen[pkg] = true
		var imports []string
		for _, path := range fields[1:] {
			if name, ours := strings.CutPrefix(path, module); ours {
				imports = append(imports, name)
				if !slices.Contains(allowed, name) {
					t.Errorf("package %s must not import %s", pkg, name)
				}
			}
		}
		for _, name := range allowed {
			if !slices.Contains(imports, name) {
				t.Errorf("package %s does not import %s; take it out of its row", pkg, name)
			}
		}
	}
	for pkg := range layers {
		if !seen[pkg] {
			t.Errorf("there is no package %s", pkg)
		}
	}
}
