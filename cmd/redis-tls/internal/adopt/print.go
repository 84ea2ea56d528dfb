package adopt

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/internal/annotation"
)

// String returns "Kind/name (file:line)".
func (p Position) String() string {
	if p.File == "" { // of a cluster
		return p.Object
	}
	return fmt.Sprintf("%s (%s:%d)", p.Object, p.File, p.Line)
}

// String returns the plan for a reader.
func (p *Plan) String() string {
	var b strings.Builder
	for _, w := range p.Workloads {
		w.print(&b)
	}
	if len(p.Removals) > 0 {
		b.WriteString("Objects that go, in this order")
		if !slices.ContainsFunc(p.Workloads, func(w Workload) bool { return len(w.Conflicts) > 0 }) {
			b.WriteString(", when all pods of these workloads have been replaced")
		}
		b.WriteString(":\n")
		for i, r := range p.Removals {
			fmt.Fprintf(&b, "  %d. %s in namespace %s\n", i+1, r, r.Namespace)
		}
		b.WriteString("\n")
	}
	if len(p.Left) > 0 {
		b.WriteString("Left as it is:\n")
		for _, l := range p.Left {
			fmt.Fprintf(&b, "  %s: %s\n", l.names(), l.Reason)
		}
		b.WriteString("\n")
	}
	if len(p.Workloads)+len(p.Removals)+len(p.Left) == 0 {
		b.WriteString("No hand-written TLS origination was found.\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// names returns the objects of one reason.
func (l Left) names() string {
	var names []string
	for _, o := range l.Objects {
		names = append(names, o.String())
	}
	return strings.Join(names, ", ")
}

func (w *Workload) print(b *strings.Builder) {
	fmt.Fprintf(b, "%s in namespace %s\n", w, w.Namespace)
	if len(w.Annotations) > 0 {
		fmt.Fprintf(b, "  Annotations of the pod template, instead of %s:\n", strings.Join(w.Replaces, ", "))
		for _, key := range sortedKeys(w.Annotations) {
			fmt.Fprintf(b, "    %s: %s\n", key, quoted(w.Annotations[key]))
		}
	} else {
		fmt.Fprintf(b, "  The pod template has the annotations already, instead of %s.\n", strings.Join(w.Replaces, ", "))
	}
	for _, list := range []struct {
		title string
		lines []string
	}{
		{"Goes from the pod template", w.Withdrawn},
		{"Safer", w.Safer},
		{"Check before", w.Check},
		{"A new pod is refused while these objects exist. Scale to 0, delete them, apply the annotations, scale up",
			w.Conflicts},
	} {
		if len(list.lines) > 0 {
			fmt.Fprintf(b, "  %s:\n", list.title)
			for _, line := range list.lines {
				fmt.Fprintf(b, "    - %s\n", line)
			}
		}
	}
	b.WriteString("\n")
}

// sortedKeys returns the annotations by instance, each in the order of the reference page.
func sortedKeys(annotations map[string]string) []string {
	order := map[string]int{}
	for i, key := range annotation.Keys() {
		order[key.Name] = i
	}
	return slices.SortedFunc(maps.Keys(annotations), func(a, b string) int {
		first, nameA, _ := strings.Cut(a, "/")
		second, nameB, _ := strings.Cut(b, "/")
		if len(first) != len(second) && (first == "redis-tls" || second == "redis-tls") {
			return len(first) - len(second)
		}
		if first != second {
			return strings.Compare(first, second)
		}
		return order[nameA] - order[nameB]
	})
}

// quoted returns a value as YAML, in quotes if it would not read as a string.
func quoted(value string) string {
	file, err := manifest.Parse("", []byte("v: "+value+"\n"))
	if err == nil && len(file.Documents) == 1 {
		if read, _ := file.Documents[0].Value.(map[string]any); read["v"] == value {
			return value
		}
	}
	return strconv.Quote(value)
}
