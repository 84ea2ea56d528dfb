package annotation

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// metadataHosts are names under which clouds serve credentials without authentication.
var metadataHosts = []string{
	"metadata.google.internal", "metadata.goog", "instance-data.ec2.internal", "metadata.azure.internal",
	"metadata.tencentyun.com", "metadata.packet.net", "metadata.platformequinix.com", "rancher-metadata.rancher.internal",
}

// host normalises and checks the name that the app dials. The problem is "" if the name is valid.
func (r rules) host(text string) (host, problem string) {
	if r.inMesh {
		return r.serviceHost(text)
	}
	if strings.Contains(text, "*") {
		return "", "must not be a wildcard, because /etc/hosts has none. Write the name that the app dials first, and the " +
			"others in " + origination.Prefix + "nodes, or only the addresses of all in " + origination.Prefix + "addresses"
	}
	host, problem = origination.NormalName(text, "write it in "+origination.Prefix+"addresses")
	if problem == "" {
		problem = cmp.Or(r.hostProblem(host), spellingProblem(text, host))
	}
	if problem != "" {
		return "", problem
	}
	return host, ""
}

// spellingProblem says why a resolver would not find the name in the pod's /etc/hosts, or returns "": glibc and musl
// compare the dialled name with the names there, which have no trailing dot and no capitals. The host is what
// NormalName returned for the text.
func spellingProblem(text, host string) string {
	fix := fmt.Sprintf("write %q, and dial that name in the app", host)
	// Other scripts have other dots, and characters that the normal form drops may follow one. So a name ends in a dot
	// if it cannot have a further one.
	_, second := origination.NormalName(text+".", "")
	switch {
	case second != "":
		return "must not end in a dot, because resolvers do not find it in /etc/hosts; " + fix
	case strings.ContainsFunc(text, func(r rune) bool { return 'A' <= r && r <= 'Z' }):
		return "must be in lower case, as the name is in /etc/hosts; " + fix
	}
	return ""
}

// hostProblem says why a normal name cannot be the host of a Redis outside the cluster, or returns "".
func (r rules) hostProblem(host string) string {
	const outside = "name a Redis outside the cluster"
	const fix = outside + ", or set " + origination.Prefix + "mode: istio-mutual for a Service"
	below := func(domain string) bool { return host == domain || strings.HasSuffix(host, "."+domain) }
	switch {
	case slices.ContainsFunc([]string{"localhost", "localdomain", "localhost6", "ip6-localhost", "ip6-loopback"}, below):
		return "must not be the pod itself, which needs no TLS; " + outside
	case slices.ContainsFunc(metadataHosts, below):
		return "must not be the metadata service of a cloud; " + outside
	case below(strings.TrimPrefix(origination.HostSuffix, ".")):
		return "must not be a name of redis-tls itself; write the real name of the Redis"
	case !strings.Contains(host, "."):
		return "must not be a single word, which resolves inside the cluster; " + fix
	case slices.ContainsFunc([]string{r.cfg.ClusterDomain, "cluster.local", "clusterset.local", "svc", "pod"},
		func(domain string) bool { return domain != "" && below(domain) }):
		return "must not be a name inside the cluster; " + fix
	case len(host) > origination.MaxHostBytes:
		return fmt.Sprintf("must have at most %d characters, got %d, because the mesh adds %q to it; use a shorter name",
			origination.MaxHostBytes, len(host), ".<key>"+origination.VIPSuffix)
	}
	if service := r.findService(host); service != "" {
		return fmt.Sprintf("must not resolve to the Service %s; %s", service, fix)
	}
	return ""
}

// findService returns "namespace/name" of the Service that a pod's resolver would find under a name
// without "svc", by the search domains <namespace>.svc.<domain> and svc.<domain>; "" when there is none.
func (r rules) findService(host string) string {
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

// subjectAltName normalises a name of a server's certificate: a DNS name, an IP or a URI. Single words and names inside
// the cluster are allowed, because the name is checked and not dialled. A wildcard must be the whole first label. Envoy
// compares it as text, so only a certificate with the same wildcard has it (Utility::dnsNameMatch,
// source/common/tls/utility.cc).
func subjectAltName(text string) (name, problem string) {
	const example = "write it as in \"10.0.0.3\" or \"2001:db8::3\""
	if rest, found := strings.CutPrefix(text, "*."); found && !strings.Contains(rest, "*") {
		name, problem = origination.NormalName(rest, example)
		if problem != "" {
			return "", problem
		}
		return "*." + name, ""
	}
	if strings.Contains(text, "*") {
		return "", "must have a wildcard only as the whole first part, as in \"*.example.com\"; " +
			"write a name that the certificate covers, as in \"redis.example.com\""
	}
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return addr.Unmap().String(), ""
	}
	if strings.Contains(text, "://") {
		if !plainURI.MatchString(text) {
			return "", "must be a URI without blanks, quotes and commas; write it as in \"spiffe://example.org/redis\""
		}
		return text, ""
	}
	return origination.NormalName(text, example)
}

// plainURI is a scheme, an authority and a path of printable ASCII without quotes, commas or blanks.
var plainURI = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://[A-Za-z0-9._~:/?#@!$&()+;=%\[\]-]+$`)
