package manifest

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// merged returns the node of a value in block style. It keeps the order of keys, the comments and the style of
// unchanged scalars of an older node.
func merged(older *yaml.Node, old, value any) *yaml.Node {
	alias := older != nil && older.Kind == yaml.AliasNode
	if alias {
		if reflect.DeepEqual(old, value) {
			return older
		}
		older = older.Alias
	}
	node := &yaml.Node{}
	if older != nil {
		node.HeadComment, node.LineComment, node.FootComment = older.HeadComment, older.LineComment, older.FootComment
	}
	switch value := value.(type) {
	case map[string]any:
		node.Kind = yaml.MappingNode
		mergeMapping(node, older, old, value)
	case []any:
		node.Kind = yaml.SequenceNode
		before, _ := old.([]any)
		for i, item := range value {
			var olderItem *yaml.Node
			var oldItem any
			if older != nil && older.Kind == yaml.SequenceNode && i < len(older.Content) && i < len(before) {
				olderItem, oldItem = older.Content[i], before[i]
			}
			node.Content = append(node.Content, merged(olderItem, oldItem, item))
		}
	default:
		if older != nil && older.Kind == yaml.ScalarNode && reflect.DeepEqual(old, value) {
			return older
		}
		return withComments(scalar(value), node)
	}
	if older != nil && older.Kind == node.Kind && !alias {
		node.Anchor = older.Anchor
	}
	return node
}

func mergeMapping(node, older *yaml.Node, old any, value map[string]any) {
	known := map[string]bool{}
	before, _ := old.(map[string]any)
	if older != nil && older.Kind == yaml.MappingNode {
		for i := 0; i < len(older.Content); i += 2 {
			key := older.Content[i]
			if kept, ok := value[key.Value]; ok {
				known[key.Value] = true
				node.Content = append(node.Content, key, merged(older.Content[i+1], before[key.Value], kept))
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(value)) {
		if !known[key] {
			node.Content = append(node.Content, scalar(key), merged(nil, nil, value[key]))
		}
	}
}

func withComments(node, from *yaml.Node) *yaml.Node {
	node.HeadComment, node.LineComment, node.FootComment = from.HeadComment, from.LineComment, from.FootComment
	return node
}

// scalar returns the node of a string, number, boolean or null.
func scalar(value any) *yaml.Node {
	node := &yaml.Node{Kind: yaml.ScalarNode}
	switch value := value.(type) {
	case string:
		node.SetString(value)
		unquote(node)
	case json.Number:
		node.Value = value.String()
	case bool:
		node.Value = map[bool]string{true: "true", false: "false"}[value]
	default:
		node.Value = "null"
	}
	return node
}

// unquote gives strings the plain style. Strings that YAML 1.1 would read as another type, like yes and 1e3, get
// quotes.
func unquote(node *yaml.Node) {
	for _, content := range node.Content {
		unquote(content)
	}
	if node.Kind != yaml.ScalarNode || node.Tag != "!!str" || strings.Contains(node.Value, "\n") {
		return
	}
	node.Style = 0
	if read, err := decode(node.Value); err == nil && reflect.DeepEqual(read, node.Value) {
		return
	}
	node.Style = yaml.DoubleQuotedStyle
	if strings.Contains(node.Value, `"`) && !strings.Contains(node.Value, "'") { // JSON
		node.Style = yaml.SingleQuotedStyle
	}
}

func pairNode(key, value *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{key, value}}
}

// encode returns the text of a node. Compact sequences are not indented below their key.
func encode(node *yaml.Node, compact bool) (string, error) {
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if compact {
		encoder.CompactSeqIndent()
	}
	if err := encoder.Encode(node); err != nil {
		return "", err
	}
	return text.String(), encoder.Close()
}

// compact reports whether the document's sequences are not indented. Without sequences it is true, as in kubectl.
func (d *Document) compact() bool {
	compact, _ := compactStyle(d.node)
	return compact
}

func compactStyle(node *yaml.Node) (compact, known bool) {
	for i, content := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 1 &&
			content.Kind == yaml.SequenceNode && content.Style&yaml.FlowStyle == 0 && len(content.Content) > 0 {
			return content.Column == node.Content[i-1].Column, true
		}
		if compact, known = compactStyle(content); known {
			return compact, true
		}
	}
	return true, false
}

// indented adds the prefix to each line that is not blank.
func indented(text, prefix string) string {
	var b strings.Builder
	for l := range strings.Lines(text) {
		if !blank(l) {
			b.WriteString(prefix)
		}
		b.WriteString(l)
	}
	return b.String()
}
