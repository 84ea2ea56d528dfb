package patches

import (
	"slices"
	"strings"
)

// Entry is a volume or a mount in Istio's annotations sidecar.istio.io/userVolume and userVolumeMount.
type Entry struct {
	// Name is the one that Istio gives it: its field name, or its key in the map form.
	Name string
	// JSON is the entry's text.
	JSON string
}

// UserEntries reads one of Istio's annotations, in the list or the map form.
func UserEntries(value string) ([]Entry, error) {
	doc, err := parseUserJSON(value)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(doc.entries))
	for i, e := range doc.entries {
		entries[i] = Entry{Name: e.names[len(e.names)-1], JSON: string(e.raw)}
	}
	return entries, nil
}

// WithoutUserEntries returns one of Istio's annotations without some entries, and how many entries stay. Everything
// else stays, byte for byte. It is the inverse of what [For] inserts.
func WithoutUserEntries(value string, removed func(Entry) bool) (rest string, stay int, err error) {
	doc, err := parseUserJSON(value)
	if err != nil {
		return value, 0, err
	}
	entries, err := UserEntries(value)
	if err != nil {
		return value, 0, err
	}
	stay = len(entries) - len(slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return !removed(e) }))
	if stay == len(entries) {
		return value, stay, nil
	}
	var b strings.Builder
	at, first := strings.IndexAny(doc.value, "[{")+1, true
	b.WriteString(doc.value[:at])
	for i, e := range doc.entries {
		to := int(e.end)
		text := doc.value[at:to]
		at = to
		if removed(entries[i]) {
			continue
		}
		if first {
			text = strings.TrimPrefix(strings.TrimLeft(text, jsonSpace), ",")
			if i == 0 {
				text = doc.value[strings.IndexAny(doc.value, "[{")+1 : to]
			}
		}
		first = false
		b.WriteString(text)
	}
	b.WriteString(doc.value[at:])
	return b.String(), stay, nil
}
