package main

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/exit"
	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// KeyExplanation explains an annotation key.
type KeyExplanation struct {
	// Key is the full key, as in "redis-tls/host".
	Key string `json:"key"`
	// Scope is "instance", "pod" or "pod only".
	Scope string `json:"scope"`
	// Values are the only allowed values. It is empty if others are allowed.
	Values []string `json:"values,omitempty"`
	// Default is the value without the key, in words.
	Default string `json:"default,omitempty"`
	// Description is text in Markdown.
	Description string `json:"description"`
	// Example is a value. It is empty for a key that only the webhook writes.
	Example string `json:"example,omitempty"`
}

// ExplainReport is the output of redis-tls explain.
type ExplainReport struct {
	// APIVersion is "redis-tls/v1".
	APIVersion string `json:"apiVersion"`
	// Kind is "ExplainReport".
	Kind string `json:"kind"`
	// Keys are those of the arguments, or all.
	Keys []KeyExplanation `json:"keys"`
}

func newExplainCommand() *cobra.Command {
	var output string
	command := &cobra.Command{
		Use:   "explain [KEY]…",
		Short: "Explain annotation keys",
		Long: `Prints what an annotation key means, where it is allowed, its values, its default and an example. Without a
key it lists all. KEY is the full annotation, or the part after the slash.

The exit status is 65 if a key is unknown.`,
		Example: `  redis-tls explain
  redis-tls explain subject-alt-names
  redis-tls explain redis-tls/host -o json`,
		ValidArgsFunction: completeKeys,
		RunE: func(command *cobra.Command, args []string) error {
			return runExplain(args, output, command.OutOrStdout())
		},
	}
	command.Flags().StringVarP(&output, "output", "o", "table", "format of the output: table, json or yaml")
	return command
}

func runExplain(args []string, output string, out io.Writer) error {
	if !slices.Contains([]string{"table", "json", "yaml"}, output) {
		return exit.With(exit.Usage, fmt.Errorf("--output must be table, json or yaml, got %q", output))
	}
	report := ExplainReport{APIVersion: "redis-tls/v1", Kind: "ExplainReport"}
	for _, arg := range args {
		key, problem := annotation.FindKey(arg)
		if problem != "" {
			return exit.With(exit.Input, fmt.Errorf("%s: %s; list all keys with \"redis-tls explain\"", arg, problem))
		}
		report.Keys = append(report.Keys, explanationOf(key))
	}
	if len(args) == 0 {
		for _, k := range annotation.Keys() {
			report.Keys = append(report.Keys, explanationOf(k))
		}
	}
	return printFormat(out, output, report, func() string {
		if len(args) == 0 {
			return keyList(report.Keys)
		}
		var texts []string
		for _, k := range report.Keys {
			texts = append(texts, explanationText(k))
		}
		return strings.Join(texts, "\n")
	})
}

func explanationOf(k annotation.Key) KeyExplanation {
	e := KeyExplanation{
		Key:         origination.Prefix + k.Name,
		Scope:       string(k.Scope),
		Default:     k.Default,
		Description: k.Description,
		Example:     k.Example,
	}
	for _, v := range k.Values {
		if v.Supported {
			e.Values = append(e.Values, v.Name)
		}
	}
	return e
}

// scopes explains the scopes of keys.
var scopes = map[string]string{
	string(annotation.ScopeInstance): "once for each Redis; on the pod, its namespace and in the Helm defaults",
	string(annotation.ScopePod):      "once for the pod; on the pod, its namespace and in the Helm defaults",
	string(annotation.ScopePodOnly):  "once, only on the pod",
}

// plain removes the marks of Markdown.
func plain(text string) string {
	return emphasis.ReplaceAllString(strings.ReplaceAll(text, "`", ""), "$1")
}

var emphasis = regexp.MustCompile(`\*(\w+)\*`)

// keyList returns a line for each key: its name and the first sentence of its description.
func keyList(keys []KeyExplanation) string {
	width := 0
	for _, k := range keys {
		width = max(width, len(k.Key))
	}
	var b strings.Builder
	for _, k := range keys {
		first, _, _ := strings.Cut(plain(k.Description), ". ")
		fmt.Fprintf(&b, "%-*s  %s\n", width, k.Key, strings.TrimSuffix(first, "."))
	}
	return b.String()
}

// explanationText returns the explanation as kubectl explain prints a field.
func explanationText(k KeyExplanation) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-9s %s\n", name+":", value)
		}
	}
	line("KEY", k.Key)
	line("SCOPE", k.Scope+": "+scopes[k.Scope])
	line("VALUES", strings.Join(k.Values, ", "))
	line("DEFAULT", plain(k.Default))
	if k.Example != "" {
		line("EXAMPLE", fmt.Sprintf("%s: %q", k.Key, k.Example))
	}
	if k.Scope == string(annotation.ScopeInstance) {
		line("FURTHER", "NAME."+k.Key+", for a further Redis of the pod")
	}
	b.WriteString("\nDESCRIPTION:\n")
	for _, text := range wrap(plain(k.Description), 80) {
		b.WriteString("  " + text + "\n")
	}
	return b.String()
}

// wrap breaks a text into lines of at most n bytes, as far as its words are not longer.
func wrap(text string, n int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > n {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}
