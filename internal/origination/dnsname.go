package origination

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"k8s.io/apimachinery/pkg/util/validation"
)

// hasPort reports whether the text is a name with a port, as in a Redis URL.
func hasPort(text string) bool {
	name, port, found := strings.Cut(text, ":")
	return found && name != "" && strings.Trim(port, "0123456789") == ""
}

// international maps a name in any script to its ASCII form by UTS #46, as browsers and curl do.
// Hyphens in third and fourth place are allowed: public services have such names.
var international = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule(),
	idna.StrictDomainName(true), idna.CheckHyphens(false))

// NormalName returns the DNS name in its form on the wire: ASCII, lower case, without the trailing dot. The problem is
// "" if the name is valid; instead is the fix for an address. NormalName returns its own results unchanged.
func NormalName(text, instead string) (name, problem string) {
	switch {
	case !utf8.ValidString(text): // idna accepts it, and returns a name that it refuses
		return "", "must be a valid international name in UTF-8; check its spelling"
	case strings.Contains(text, "://"):
		return "", "must be a host name, not a URL; write only the name, and the port in " + Prefix + "port"
	case strings.Contains(text, "*"):
		return "", "must not be a wildcard; name one host, as in \"redis.example.com\""
	case isAddress(text):
		return "", "must be a name, not an address; " + instead
	case hasPort(text):
		return "", "must not have a port; write only the name, and the port in " + Prefix + "port"
	}
	name = text
	if !isASCII(text) || strings.Contains(strings.ToLower(text), "xn--") {
		ascii, err := international.ToASCII(text)
		if err != nil {
			return "", "must be a valid international name (" + Shorten(err.Error()) +
				"); check its spelling, or write its ASCII form (xn--…)"
		}
		name = ascii
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if problem := labelProblem(label); problem != "" {
			return "", problem
		}
	}
	if endsInNumber(labels[len(labels)-1]) {
		return "", "must not end in a number, which resolvers read as an IPv4 address; " + instead
	}
	if len(name) > validation.DNS1123SubdomainMaxLength {
		return "", fmt.Sprintf("must have at most %d characters, got %d; use a shorter name",
			validation.DNS1123SubdomainMaxLength, len(name))
	}
	return name, ""
}

// labelProblem says why the label is not allowed in a DNS name, or returns "". Kubernetes has the same rule for names
// in hostAliases, so underscores are not allowed.
func labelProblem(label string) string {
	switch {
	case label == "":
		return "must not have an empty part between dots; write it as in \"redis.example.com\""
	case len(label) > validation.DNS1123LabelMaxLength:
		return fmt.Sprintf("must have at most %d characters between dots, got %q",
			validation.DNS1123LabelMaxLength, Shorten(label))
	case len(validation.IsDNS1123Label(label)) != 0:
		return fmt.Sprintf("must have only letters, digits and inner '-' between dots, got %q; "+
			"write it as in \"redis.example.com\"", label)
	}
	return ""
}

// isAddress reports whether the text is an IP address in plain notation, bracketed or not.
func isAddress(text string) bool {
	_, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return err == nil
}

func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r > '\x7f' })
}

// endsInNumber is the "ends in a number" check of the WHATWG URL standard on a last label: resolvers
// take such names (127.1, 0x7f.1) for IPv4 addresses in odd notation.
func endsInNumber(last string) bool {
	digits, hex := strings.CutPrefix(last, "0x")
	allowed := "0123456789"
	if hex {
		allowed += "abcdef"
	}
	return strings.Trim(digits, allowed) == "" && (hex || digits != "")
}

// Shorten cuts a user's text to the length for a message.
func Shorten(s string) string { return Cut(s, 100) }

// Cut cuts a text to at most the given number of bytes, between characters.
func Cut(s string, longest int) string {
	if len(s) <= longest {
		return s
	}
	for longest > 0 && !utf8.RuneStart(s[longest]) {
		longest--
	}
	return s[:longest] + "…"
}
