package origination

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"k8s.io/apimachinery/pkg/util/validation"
)

// maxHostBytes leaves room for HostSuffix within the 253 characters of a DNS name.
const maxHostBytes = validation.DNS1123SubdomainMaxLength - len(HostSuffix)

// metadataHosts are names under which clouds serve credentials to whoever asks.
var metadataHosts = []string{
	"metadata.google.internal", "metadata.goog", "instance-data.ec2.internal", "metadata.azure.internal",
	"metadata.tencentyun.com", "metadata.packet.net", "metadata.platformequinix.com", "rancher-metadata.rancher.internal",
}

// hostWithPort is a name with a port behind it, as in a Redis URL.
var hostWithPort = regexp.MustCompile(`^[^:]+:[0-9]*$`)

// international maps a name in any script to its ASCII form by UTS #46, as browsers and curl do.
// Hyphens in third and fourth place are let through: public services have such names.
var international = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule(),
	idna.StrictDomainName(true), idna.CheckHyphens(false))

// normalName returns the DNS name as the wire knows it: ASCII, lower case, without the trailing dot.
// problem says what is wrong, "" when nothing is; instead says what an address would do better as. A
// name that it returned it returns unchanged again.
func normalName(text, instead string) (name, problem string) {
	switch {
	case !utf8.ValidString(text): // idna lets it through, as a name that it then refuses itself
		return "", "is not a valid international name (no UTF-8); check its spelling"
	case strings.Contains(text, "://"):
		return "", "is a URL; write the host name alone, and the port into " + Prefix + "port"
	case strings.Contains(text, "*"):
		return "", "is a wildcard; name one concrete host, as in \"redis.example.com\""
	case isAddress(text):
		return "", "is an address, not a name; " + instead
	case hostWithPort.MatchString(text):
		return "", "has a port behind the name; write the host name alone, and the port into " + Prefix + "port"
	}
	name = text
	if !isASCII(text) || strings.Contains(strings.ToLower(text), "xn--") {
		ascii, err := international.ToASCII(text)
		if err != nil {
			return "", "is not a valid international name (" + shorten(err.Error()) + "); check its spelling, or give its ASCII form (xn--…)"
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
		return "", "ends in a number, which makes it an IPv4 address in odd notation; " + instead
	}
	if len(name) > validation.DNS1123SubdomainMaxLength {
		return "", fmt.Sprintf("has %d characters, a DNS name has at most %d", len(name), validation.DNS1123SubdomainMaxLength)
	}
	return name, ""
}

// labelProblem says why the part between two dots cannot be one of a DNS name. Kubernetes asks the
// same of a hostAliases name, so there are no underscores.
func labelProblem(label string) string {
	switch {
	case label == "":
		return "has an empty part between its dots; write it as in \"redis.example.com\""
	case len(label) > validation.DNS1123LabelMaxLength:
		return fmt.Sprintf("has the part %q of more than %d characters, which DNS does not allow", shorten(label), validation.DNS1123LabelMaxLength)
	case len(validation.IsDNS1123Label(label)) != 0:
		return fmt.Sprintf("has the part %q; a DNS name has letters, digits and '-' inside, as in \"redis.example.com\"", label)
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

// host normalises and judges the name that the app dials. problem says what is wrong, "" when nothing is.
func (r rules) host(text string) (host, problem string) {
	if r.inMesh {
		return r.serviceHost(text)
	}
	host, problem = normalName(text, "write it in plain notation into "+Prefix+"addresses")
	if problem != "" {
		return "", problem
	}
	if problem := r.hostProblem(host); problem != "" {
		return "", problem
	}
	return host, ""
}

// hostProblem says why a normal name cannot be the host of a Redis outside the cluster, or returns "".
func (r rules) hostProblem(host string) string {
	const right = "give the name of a Redis outside the cluster, as in \"redis.example.com\"; for a Service of the mesh set " + Prefix + "mode to \"istio-mutual\""
	below := func(domain string) bool { return host == domain || strings.HasSuffix(host, "."+domain) }
	switch {
	case slices.ContainsFunc([]string{"localhost", "localdomain", "localhost6", "ip6-localhost", "ip6-loopback"}, below):
		return "is this machine itself, which needs no TLS; give the name of a Redis outside the cluster"
	case slices.ContainsFunc(metadataHosts, below):
		return "is the metadata service of a cloud; " + right
	case below(strings.TrimPrefix(HostSuffix, ".")):
		return "is a name that redis-tls itself gives; give the real name of the Redis"
	case !strings.Contains(host, "."):
		return "is a single word, which resolves inside the cluster; " + right
	case slices.ContainsFunc([]string{r.cfg.ClusterDomain, "cluster.local", "clusterset.local", "svc", "pod"},
		func(domain string) bool { return domain != "" && below(domain) }):
		return "is a name inside the cluster; " + right
	case len(host) > maxHostBytes:
		return fmt.Sprintf("has %d characters; at most %d leave room for the private name that the mesh knows it by (…%s)", len(host), maxHostBytes, HostSuffix)
	}
	if service := r.serviceNamed(host); service != "" {
		return fmt.Sprintf("resolves to the Service %s of this cluster; %s", service, right)
	}
	return ""
}

// serviceNamed returns "namespace/name" of the Service that a pod's resolver would find under a name
// without "svc", by the search domains <namespace>.svc.<domain> and svc.<domain>; "" when there is none.
func (r rules) serviceNamed(host string) string {
	if r.services == nil {
		return ""
	}
	type service struct{ namespace, name string }
	var candidates []service
	switch labels := strings.Split(host, "."); len(labels) {
	case 2: // service.namespace, or pod.service of the own namespace
		candidates = []service{{labels[1], labels[0]}, {r.namespace, labels[1]}}
	case 3: // pod.service.namespace
		candidates = []service{{labels[2], labels[1]}}
	}
	for _, s := range candidates {
		if _, found := r.services.Service(s.namespace, s.name); found {
			return s.namespace + "/" + s.name
		}
	}
	return ""
}

// subjectAltName normalises one name that a server's certificate may carry: a DNS name, an IP or a URI.
// Single words and names inside the cluster are fine: it is checked, not dialled.
func subjectAltName(text string) (name, problem string) {
	if strings.Contains(text, "*") {
		return "", "is a wildcard; name one concrete host that the certificate covers, as in \"redis.example.com\""
	}
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return addr.Unmap().String(), ""
	}
	if strings.Contains(text, "://") {
		if !plainURI.MatchString(text) {
			return "", "is not a URI as certificates carry it; write it as in \"spiffe://example.org/redis\""
		}
		return text, ""
	}
	return normalName(text, "write it as in \"10.0.0.3\" or \"2001:db8::3\"")
}

// plainURI is a scheme, an authority and a path of printable ASCII without quotes, commas or blanks.
var plainURI = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://[A-Za-z0-9._~:/?#@!$&()+;=%\[\]-]+$`)
