package manifest

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Rewrite sets the document's value. It changes only the lines that differ. For JSON, flow style and some anchors that
// is impossible; then it writes the whole document again and keeps comments and the order of keys. If the new text does
// not read as the value, Rewrite fails and the document stays unchanged.
func (d *Document) Rewrite(value any) error {
	if reflect.DeepEqual(d.Value, value) {
		return nil
	}
	body, ok := d.splice(value)
	if !ok || !d.reads(body, value) {
		var err error
		if body, err = d.render(value); err != nil {
			return err
		}
		if !d.reads(body, value) {
			return errors.New("this document cannot be rewritten; remove its anchors and its flow style")
		}
	}
	rewritten := Document{Index: d.Index, head: d.head, body: body, line: d.line}
	if err := rewritten.decode(); err != nil {
		return err
	}
	*d = rewritten
	return nil
}

func (d *Document) reads(body string, value any) bool {
	got, err := decode(body)
	return err == nil && reflect.DeepEqual(got, value)
}

// render writes the whole document again, in block style.
func (d *Document) render(value any) (string, error) {
	node := merged(d.node, d.Value, value)
	if strings.HasPrefix(strings.TrimSpace(d.body), "{") {
		unquote(node)
	}
	body, err := encode(node, d.compact())
	if strings.HasPrefix(d.body, "\n") { // the end of the separator line
		body = "\n" + body
	}
	return body, err
}

// splice replaces and inserts lines of the body.
func (d *Document) splice(value any) (string, bool) {
	s := splicer{lines: slices.Collect(strings.Lines(d.body)), compact: d.compact()}
	if last := len(s.lines) - 1; !strings.HasSuffix(s.lines[last], "\n") {
		s.lines[last] += "\n"
	}
	if !s.value(d.node, d.Value, value) {
		return "", false
	}
	return s.text(), true
}

// splicer collects the edits of a document's lines.
type splicer struct {
	lines   []string
	compact bool
	edits   []edit
}

// edit replaces the lines [from, to) by the text. The edits of a document never overlap.
type edit struct {
	from, to int
	text     string
}

func (s *splicer) text() string {
	slices.SortStableFunc(s.edits, func(a, b edit) int { return a.from - b.from })
	var text strings.Builder
	next := 0
	for _, e := range s.edits {
		for _, l := range s.lines[next:e.from] {
			text.WriteString(l)
		}
		text.WriteString(e.text)
		next = e.to
	}
	for _, l := range s.lines[next:] {
		text.WriteString(l)
	}
	return text.String()
}

// value edits the lines below a node. If it cannot, it reports false and edits nothing, and the caller writes the node
// again.
func (s *splicer) value(node *yaml.Node, old, want any) bool {
	if node.Style&yaml.FlowStyle != 0 || len(node.Content) == 0 {
		return false
	}
	before := len(s.edits)
	ok := false
	switch old := old.(type) {
	case map[string]any:
		if want, same := want.(map[string]any); same && node.Kind == yaml.MappingNode {
			ok = s.mapping(node, old, want)
		}
	case []any:
		if want, same := want.([]any); same && node.Kind == yaml.SequenceNode {
			ok = s.sequence(node, old, want)
		}
	}
	if !ok {
		s.edits = s.edits[:before]
	}
	return ok
}

func (s *splicer) mapping(node *yaml.Node, old, want map[string]any) bool {
	if len(want) == 0 {
		return false
	}
	indent := node.Content[0].Column - 1
	known := map[string]bool{}
	end := 0
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if _, plain := old[key.Value]; !plain { // a merge key, or one that YAML and JSON spell differently
			return false
		}
		known[key.Value] = true
		from := key.Line - 1
		to := s.blockEnd(from, indent, value.Kind == yaml.SequenceNode)
		if i+2 < len(node.Content) {
			to = node.Content[i+2].Line - 1
		}
		end = s.trim(from, to, indent)
		wanted, keep := want[key.Value]
		switch {
		case !keep && !blank(s.lines[from][:indent]):
			return false // the line contains the dash of a sequence
		case !keep:
			s.edits = append(s.edits, edit{from: from, to: s.trim(from, to, indent+1)})
		case reflect.DeepEqual(old[key.Value], wanted), s.value(value, old[key.Value], wanted):
		default:
			if !s.pair(from, s.trim(from, to, indent+1), key, merged(value, old[key.Value], wanted)) {
				return false
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if !known[key] && !s.insert(end, strings.Repeat(" ", indent), pairNode(scalar(key), merged(nil, nil, want[key]))) {
			return false
		}
	}
	return true
}

// pair writes a key and its value again. The text before the key in its line, the dash of a sequence, stays. Comments
// above the key stay too.
func (s *splicer) pair(from, to int, key, value *yaml.Node) bool {
	named := *key
	named.HeadComment, named.FootComment = "", ""
	if value.Kind != yaml.ScalarNode && value.LineComment != "" {
		named.LineComment, value.LineComment = value.LineComment, ""
	}
	before := s.lines[from][:key.Column-1]
	text, err := encode(pairNode(&named, value), s.compact)
	if err != nil {
		return false
	}
	text = before + strings.TrimLeft(indented(text, strings.Repeat(" ", len(before))), " ")
	s.edits = append(s.edits, edit{from: from, to: to, text: s.ended(text)})
	return true
}

// sequence edits changed items and appends new ones, or deletes items.
func (s *splicer) sequence(node *yaml.Node, old, want []any) bool {
	if len(node.Content) != len(old) {
		return false
	}
	if len(want) < len(old) {
		return s.delete(node, old, want)
	}
	for i, item := range node.Content {
		if !reflect.DeepEqual(old[i], want[i]) && !s.value(item, old[i], want[i]) {
			return false
		}
	}
	indent := node.Column - 1
	last := node.Content[len(node.Content)-1].Line - 1
	end := s.trim(last, s.blockEnd(last, indent, false), indent+1)
	for _, item := range want[len(old):] {
		items := &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{merged(nil, nil, item)}}
		if !s.insert(end, strings.Repeat(" ", indent), items) {
			return false
		}
	}
	return true
}

// delete deletes the items that are not wanted. The others must be unchanged, and one must stay.
func (s *splicer) delete(node *yaml.Node, old, want []any) bool {
	if len(want) == 0 {
		return false
	}
	indent, kept := node.Column-1, 0
	for i, item := range node.Content {
		if kept < len(want) && reflect.DeepEqual(old[i], want[kept]) {
			kept++
			continue
		}
		from := item.Line - 1
		if !strings.HasPrefix(strings.TrimLeft(s.lines[from], " "), "-") || !blank(s.lines[from][:indent]) {
			return false // the line has the dash of another sequence, or the item is below its dash
		}
		to := s.blockEnd(from, indent, false)
		if i+1 < len(node.Content) {
			to = node.Content[i+1].Line - 1
		}
		s.edits = append(s.edits, edit{from: from, to: s.trim(from, to, indent+1)})
	}
	return kept == len(want)
}

func (s *splicer) insert(at int, prefix string, node *yaml.Node) bool {
	text, err := encode(node, s.compact || node.Kind == yaml.SequenceNode)
	s.edits = append(s.edits, edit{from: at, to: at, text: s.ended(indented(text, prefix))})
	return err == nil
}

// blockEnd returns the line after the block that begins in line from and has the given indentation. With dashes, a
// sequence of the same indentation belongs to the block, because the value of a key may be an unindented sequence.
func (s *splicer) blockEnd(from, indent int, dashes bool) int {
	for i := from + 1; i < len(s.lines); i++ {
		content := strings.TrimLeft(s.lines[i], " ")
		at := len(s.lines[i]) - len(content)
		switch {
		case blank(content), content[0] == '#', at > indent:
		case dashes && at == indent && strings.HasPrefix(content, "-"):
		default:
			return i
		}
	}
	return len(s.lines)
}

// trim moves the end of a block up over blank lines and less indented comments.
func (s *splicer) trim(from, to, indent int) int {
	for ; to > from+1; to-- {
		content := strings.TrimLeft(s.lines[to-1], " ")
		if !blank(content) && (content[0] != '#' || len(s.lines[to-1])-len(content) >= indent) {
			break
		}
	}
	return to
}

// ended returns the text with the line ends of the document.
func (s *splicer) ended(text string) string {
	if strings.HasSuffix(s.lines[0], "\r\n") {
		return strings.ReplaceAll(text, "\n", "\r\n")
	}
	return text
}

func blank(content string) bool { return strings.TrimSpace(content) == "" }
