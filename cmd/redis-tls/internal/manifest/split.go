package manifest

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// split cuts the text at its document separators, as the Kubernetes decoders do. A separator is a line that begins with
// "---" and has only a comment after it. JSON is a stream of values instead.
func split(text string) ([]*Document, *Error) {
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		if documents, ok := splitJSON(text); ok {
			return documents, nil
		}
	}
	documents := []*Document{{}}
	var body strings.Builder
	line := 0
	for l := range strings.Lines(text) {
		line++
		rest, separator := strings.CutPrefix(l, "---")
		if !separator {
			body.WriteString(l)
			continue
		}
		if rest = strings.TrimSpace(rest); rest != "" && rest[0] != '#' {
			return nil, &Error{Line: line, Err: fmt.Errorf("only a comment may follow a document separator, got %q", rest)}
		}
		documents[len(documents)-1].body = body.String()
		body.Reset()
		documents = append(documents, &Document{head: l, line: line})
	}
	documents[len(documents)-1].body = body.String()
	if documents[0].body == "" && len(documents) > 1 {
		documents = documents[1:]
	}
	return documents, nil
}

// splitJSON cuts a stream of JSON values. It reports false if the text is not JSON, as in YAML in flow style.
func splitJSON(text string) ([]*Document, bool) {
	var documents []*Document
	decoder := json.NewDecoder(strings.NewReader(text))
	for from := 0; ; {
		var value json.RawMessage
		err := decoder.Decode(&value)
		if err == io.EOF {
			return documents, true
		}
		if err != nil {
			return nil, false
		}
		to := int(decoder.InputOffset())
		if strings.TrimSpace(text[to:]) == "" {
			to = len(text)
		}
		d := &Document{body: text[from:to]}
		if last := len(documents) - 1; last >= 0 {
			if !strings.HasSuffix(documents[last].body, "\n") {
				documents[last].body += "\n"
			}
			from = to - len(strings.TrimLeft(d.body, " \t\r\n"))
			d.head = "---"
			d.body = "\n" + text[from:to]
			d.line = strings.Count(text[:from], "\n") - 1
		}
		documents = append(documents, d)
		from = to
	}
}
