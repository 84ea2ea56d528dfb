package manifest

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// Text returns the file's text as YAML.
func (f *File) Text() string {
	var text strings.Builder
	for _, d := range f.Documents {
		text.WriteString(d.head)
		text.WriteString(d.body)
	}
	return text.String()
}

// Line returns the line of the file, from 1, at which the value of the path begins. If there is no such value, it
// returns the line of the nearest parent. A path has keys of mappings (string) and indexes of sequences (int).
func (d *Document) Line(path ...any) int {
	node, line := d.node, 0
	if node == nil {
		return d.line + 1
	}
	line = node.Line
	for _, step := range path {
		key, value := child(node, step)
		if value == nil {
			break
		}
		node, line = value, value.Line
		if key != nil {
			line = key.Line
		}
	}
	return d.line + line
}

// child returns the value at a step of a path and, in a mapping, its key.
func child(node *yaml.Node, step any) (key, value *yaml.Node) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch step := step.(type) {
	case int:
		if node.Kind == yaml.SequenceNode && step < len(node.Content) {
			return nil, node.Content[step]
		}
	case string:
		if node.Kind != yaml.MappingNode {
			return nil, nil
		}
		for i := 0; i < len(node.Content); i += 2 {
			if node.Content[i].Value == step {
				return node.Content[i], node.Content[i+1]
			}
		}
	}
	return nil, nil
}
