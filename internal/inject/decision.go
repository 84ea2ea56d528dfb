package inject

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Outcome returns the outcome of the decision.
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

// The limits of a message, because it quotes annotations of any length.
const (
	maxLine  = 600 // runes
	maxLines = 40
)

// Message returns the text for the author of the YAML: every problem on a line of its own, with path, value and rule.
// It is empty if there is no problem.
func (d Decision) Message(namespace string, pod *corev1.Pod) string {
	if len(d.Problems) == 0 {
		return ""
	}
	var lines []string
	for _, p := range d.Problems {
		if line := shorten(p.Err.Error(), maxLine); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	if omitted := len(lines) - maxLines; omitted > 0 {
		lines = append(lines[:maxLines], fmt.Sprintf("%d more problems", omitted))
	}
	return fmt.Sprintf("pod %s in namespace %s cannot get Redis TLS (%s):\n  %s",
		nameOf(pod), namespace, d.Reason, strings.Join(lines, "\n  "))
}

// nameOf returns the pod's name, or its generateName and an asterisk if the API server has not generated the name yet.
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

// shorten returns s on one line, cut to at most n runes.
func shorten(s string, n int) string {
	s = strings.ReplaceAll(s, "\n", " ")
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	return string(runes[:n-1]) + "…"
}
