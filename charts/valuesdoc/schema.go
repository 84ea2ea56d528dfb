package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// value is a property of the schema.
type value struct {
	path        []string
	heading     string // $comment
	description string
	types       []string
	enum        []string
	def         *yaml.Node // nil: an object that has children
	examples    []*yaml.Node
	children    []*value // in the schema's order
}

// name returns the name of the value for --set.
func (v *value) name() string { return strings.Join(v.path, ".") }

// parse reads the schema. Every value must have a description, and either a default or properties.
func parse(schema []byte) (*value, error) {
	var document yaml.Node // JSON is YAML, and this parser keeps the order
	if err := yaml.Unmarshal(schema, &document); err != nil {
		return nil, err
	}
	if len(document.Content) != 1 {
		return nil, errors.New("no document")
	}
	return property(document.Content[0], nil)
}

// property reads a property and its children.
func property(node *yaml.Node, path []string) (*value, error) {
	v := &value{path: path}
	var properties *yaml.Node
	var err error
	for key, content := range pairs(node) {
		switch key {
		case "$comment":
			err = content.Decode(&v.heading)
		case "description":
			err = content.Decode(&v.description)
		case "type":
			if v.types = []string{content.Value}; content.Kind == yaml.SequenceNode {
				err = content.Decode(&v.types)
			}
		case "enum":
			err = content.Decode(&v.enum)
		case "default":
			v.def = plain(content)
		case "examples":
			for _, example := range content.Content {
				v.examples = append(v.examples, plain(example))
			}
		case "properties":
			properties = content
		}
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w", key, v.name(), err)
		}
	}
	switch {
	case v.description == "":
		return nil, fmt.Errorf("%s has no description", v.name())
	case len(v.types) == 0 && len(v.enum) == 0:
		return nil, fmt.Errorf("%s has no type", v.name())
	case (v.def == nil) == (properties == nil):
		return nil, fmt.Errorf("%s must have either a default or properties", v.name())
	}
	for name, content := range pairs(properties) {
		if len(path) == 0 && name == "global" {
			continue // not a value of the chart
		}
		child, err := property(content, append(slices.Clone(path), name))
		if err != nil {
			return nil, err
		}
		v.children = append(v.children, child)
	}
	return v, nil
}

// pairs iterates over the keys and values of an object in order.
func pairs(node *yaml.Node) func(func(string, *yaml.Node) bool) {
	return func(yield func(string, *yaml.Node) bool) {
		if node == nil || node.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(node.Content); i += 2 {
			if !yield(node.Content[i].Value, node.Content[i+1]) {
				return
			}
		}
	}
}

// plain returns the node without the quotes and braces of JSON that YAML does not need.
func plain(node *yaml.Node) *yaml.Node {
	n := *node
	if n.Kind == yaml.ScalarNode || len(n.Content) > 0 {
		n.Style = 0 // the encoder quotes where the tag requires it
	}
	n.Content = nil
	for _, child := range node.Content {
		n.Content = append(n.Content, plain(child))
	}
	return &n
}
