package origination

import "unicode/utf8"

// Limits that hold before anything is parsed, so that nobody's annotations cost the webhook much.
const (
	maxValueBytes       = 8192 // of one annotation's value
	maxInstances        = 16   // of one pod
	maxPorts            = 16   // of one list
	maxAddresses        = 64   // of one list
	maxSubjectAltNames  = 32   // of one list
	maxKeyWarnings      = 16   // about unknown keys of one source
	maxKeyBytesToSearch = 63   // longer names get no did-you-mean; Kubernetes allows no longer ones
)

// Limit is a bound that the reference page names.
type Limit struct {
	What string
	Most int
}

// Limits returns the bounds that a user may meet.
func Limits() []Limit {
	return []Limit{
		{"bytes of one value", maxValueBytes},
		{"Redis instances of one pod", maxInstances},
		{"ports of one list", maxPorts},
		{"elements of `addresses`", maxAddresses},
		{"elements of `subject-alt-names`", maxSubjectAltNames},
		{"characters of `host`", maxHostBytes},
	}
}

// shorten cuts what a message repeats of the user's text.
func shorten(s string) string { return cut(s, 100) }

// shortenKey cuts keys that the API server will not let through: admission comes before validation.
func shortenKey(key string) string { return cut(key, 253+1+63) }

func cut(s string, longest int) string {
	if len(s) <= longest {
		return s
	}
	for longest > 0 && !utf8.RuneStart(s[longest]) {
		longest--
	}
	return s[:longest] + "…"
}
