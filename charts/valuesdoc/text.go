package main

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// width is the maximum width of a comment in values.yaml.
const width = 112

// valuesYAML returns the defaults, with the descriptions as comments.
func valuesYAML(root *value) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# Generated from values.schema.json by \"make generate\"; do not edit.\n")
	for _, v := range root.children {
		if err := writeValue(&b, v); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

func writeValue(b *bytes.Buffer, v *value) error {
	indent := strings.Repeat("  ", len(v.path)-1)
	if len(v.path) == 1 {
		b.WriteByte('\n')
	}
	if v.heading != "" {
		comment(b, "# ---- ", v.heading)
		b.WriteByte('\n')
	}
	comment(b, indent+"# ", v.description)
	for _, example := range v.examples {
		text, err := text(example)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "%s# For example:\n", indent)
		for line := range strings.Lines(text) {
			fmt.Fprintf(b, "%s#   %s", indent, line)
		}
	}
	fmt.Fprintf(b, "%s%s:", indent, v.path[len(v.path)-1])
	if v.def == nil {
		b.WriteByte('\n')
		for _, child := range v.children {
			if err := writeValue(b, child); err != nil {
				return err
			}
		}
		return nil
	}
	text, err := text(v.def)
	if err != nil {
		return err
	}
	if len(v.def.Content) == 0 {
		fmt.Fprintf(b, " %s", text)
		return nil
	}
	b.WriteByte('\n')
	for line := range strings.Lines(text) {
		if v.def.Kind == yaml.MappingNode {
			line = "  " + line
		}
		b.WriteString(indent + line)
	}
	return nil
}

// comment writes the text in lines with the prefix.
func comment(b *bytes.Buffer, prefix, words string) {
	line := ""
	for word := range strings.FieldsSeq(words) {
		switch {
		case line == "":
			line = prefix + word
		case len(line)+1+len(word) > width:
			b.WriteString(line + "\n")
			line = prefix + word
		default:
			line += " " + word
		}
	}
	b.WriteString(line + "\n")
}

// text returns the node as YAML, with a final newline.
func text(node *yaml.Node) (string, error) {
	var b strings.Builder
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(node); err != nil {
		return "", err
	}
	return b.String(), encoder.Close()
}

// table returns a row for each value with a default.
func table(root *value) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("| value | type | default | meaning |\n| --- | --- | --- | --- |\n")
	err := rows(&b, root)
	return b.Bytes(), err
}

func rows(b *bytes.Buffer, v *value) error {
	if v.def == nil {
		for _, child := range v.children {
			if err := rows(b, child); err != nil {
				return err
			}
		}
		return nil
	}
	compact := *v.def
	compact.Style |= yaml.FlowStyle
	def, err := text(&compact)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "| `%s` | %s | `%s` | %s |\n", v.name(), kind(v), strings.TrimSpace(def), cell(v.description))
	return nil
}

// kind returns the value's type, or its possible values.
func kind(v *value) string {
	if len(v.enum) == 0 {
		return strings.Join(v.types, " or ")
	}
	var choices []string
	for _, choice := range v.enum {
		choices = append(choices, "`"+choice+"`")
	}
	return strings.Join(choices, ", ")
}

// cell escapes the text for a cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`).Replace(text)
}
