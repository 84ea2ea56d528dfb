package inject

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Outcome returns what became of the pod.
func (d Decision) Outcome() origination.Outcome {
	switch {
	case !d.Allowed:
		return origination.OutcomeRefused
	case d.Reason == origination.ReasonInjected:
		return origination.OutcomeInjected
	case len(d.Problems) > 0:
		return origination.OutcomeTolerated
	default:
		return origination.OutcomeSkipped
	}
}

// The message's bounds. Annotations may be long and are quoted in it.
const (
	longestLine = 600 // runes
	mostLines   = 40
)

// Message tells the person who wrote the YAML every problem at once, each on its own line with the path,
// the value and the rule. Empty without problems.
func (d Decision) Message(namespace string, pod *corev1.Pod) string {
	if len(d.Problems) == 0 {
		return ""
	}
	var lines []string
	for _, p := range d.Problems {
		if line := shorten(p.Err.Error(), longestLine); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	if more := len(lines) - mostLines; more > 0 {
		lines = append(lines[:mostLines], fmt.Sprintf("and %d more problems", more))
	}
	return fmt.Sprintf("pod %s in namespace %s cannot have its Redis TLS (%s):\n  %s",
		nameOf(pod), namespace, d.Reason, strings.Join(lines, "\n  "))
}

// nameOf returns the pod's name; before the API server has made one up, what it begins with.
func nameOf(pod *corev1.Pod) string {
	switch {
	case pod.Name != "":
		return pod.Name
	case pod.GenerateName != "":
		return pod.GenerateName + "*"
	default:
		return "(without a name)"
	}
}

// shorten cuts s to at most n runes, on one line.
func shorten(s string, n int) string {
	s = strings.ReplaceAll(s, "\n", " ")
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	return string(runes[:n-1]) + "…"
}
