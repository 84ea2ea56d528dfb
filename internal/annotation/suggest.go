package annotation

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// unknownKey says why a key of redis-tls is not in the table, or not allowed for an instance; "" if it is. It suggests
// the nearest key only if suggest is true, because the search is slow.
func unknownKey(key, instance, name string, suggest bool) string {
	known, ok := keyIndex[name]
	switch {
	case hasUpperCasePrefix(key):
		return fmt.Sprintf("keys must be in lower case; write %q", origination.Shorten(strings.ToLower(key)))
	case ok && (known.Scope == ScopeInstance || key == origination.Prefix+name):
		return ""
	case ok:
		return fmt.Sprintf("%s applies to the whole pod, not to one Redis; write %q", name, origination.Prefix+name)
	}
	text := "unknown key"
	if !suggest {
		return text
	}
	if nearest := nearestKey(strings.ToLower(name)); nearest != nil {
		if nearest.Scope != ScopeInstance {
			instance = origination.DefaultInstance
		}
		text += fmt.Sprintf("; did you mean %q?", origination.Shorten(origination.KeyOf(instance, nearest.Name)))
	}
	return text
}

// FindKey returns the key of a full annotation ("redis-tls/host", "sessions.redis-tls/host") or of a name ("host"). If
// there is none, the problem says so, with the most similar key.
func FindKey(text string) (key Key, problem string) {
	instance, name, ok := splitKey(text)
	if !ok {
		instance, name = origination.DefaultInstance, text
	}
	full := origination.KeyOf(instance, name)
	if ok {
		full = text
	}
	if problem := unknownKey(full, instance, name, true); problem != "" {
		return Key{}, problem
	}
	return *keyIndex[name], ""
}

// nearestKey returns the key of users whose name is most similar to a mistyped one, nil if none is similar: a third of
// the letters may differ.
func nearestKey(name string) *Key {
	if len(name) > maxKeyBytesToSearch {
		return nil
	}
	var nearest *Key
	best := max(2, len(name)/3) + 1
	for i := range keys {
		if slices.Contains(origination.WebhookAnnotations, origination.Prefix+keys[i].Name) {
			continue
		}
		if d := levenshtein.ComputeDistance(name, keys[i].Name); d < best && d < len(keys[i].Name) {
			nearest, best = &keys[i], d
		}
	}
	return nearest
}
