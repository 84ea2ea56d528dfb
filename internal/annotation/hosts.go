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

// host normalises and checks a name that the app dials. The problem is "" if the name is valid. The name of a Service
// becomes its full name, with its other forms as aliases.
func (r rules) host(text string) (host serverName, problem string) {
	if r.inMesh {
		full, problem := r.serviceHost(text)
		return serverName{Name: origination.Name{Host: full}}, problem
	}
	if strings.Contains(text, "*") {
		return serverName{}, "must not be a wildcard, because /etc/hosts has none. Write the name that the app dials " +
			"first, and the others in " + origination.Prefix + "nodes, or only the addresses of all in " + origination.Prefix +
			"addresses"
	}
	name, problem := origination.NormalName(text, "write it in "+origination.Prefix+"addresses")
	if problem == "" {
		problem = reservedProblem(name)
	}
	if problem != "" {
		return serverName{}, problem
	}
	host = serverName{Name: origination.Name{Host: name}, certified: []string{name}}
	service, found, problem := r.findService(name)
	switch {
	case problem != "":
		return serverName{}, problem
	case found:
		host = r.serverName(service)
	default:
		problem = r.outsideProblem(name)
	}
	if problem = cmp.Or(problem, lengthProblem(host.Host), spellingProblem(text, name)); problem != "" {
		return serverName{}, problem
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

// reservedProblem says why a normal name can be the host of no Redis, or returns "".
func reservedProblem(host string) string {
	const outside = "name a Redis outside the cluster"
	switch {
	case slices.ContainsFunc([]string{"localhost", "localdomain", "localhost6", "ip6-localhost", "ip6-loopback"},
		func(domain string) bool { return isBelow(host, domain) }):
		return "must not be the pod itself, which needs no TLS; " + outside
	case slices.ContainsFunc(metadataHosts, func(domain string) bool { return isBelow(host, domain) }):
		return "must not be the metadata service of a cloud; " + outside
	case isBelow(host, strings.TrimPrefix(origination.HostSuffix, ".")):
		return "must not be a name of redis-tls itself; write the real name of the Redis"
	}
	return ""
}

// isBelow reports whether the name is the domain or below it.
func isBelow(name, domain string) bool { return name == domain || strings.HasSuffix(name, "."+domain) }

// outsideProblem says why a normal name that is no Service's cannot be that of a Redis outside the cluster, or returns
// "".
func (r rules) outsideProblem(host string) string {
	if slices.ContainsFunc([]string{r.cfg.ClusterDomain, "cluster.local", "clusterset.local", "svc", "pod"},
		func(domain string) bool { return domain != "" && isBelow(host, domain) }) {
		return "must not be a name inside the cluster other than a Service's; name a Redis outside the cluster, or a " +
			"Service, as in \"redis.data.svc\""
	}
	return ""
}

// lengthProblem says that a host is too long for its private host, or returns "".
func lengthProblem(host string) string {
	if len(host) <= origination.MaxHostBytes {
		return ""
	}
	return fmt.Sprintf("must have at most %d characters, got %d, because the mesh adds %q to it; use a shorter name",
		origination.MaxHostBytes, len(host), ".<key>"+origination.VIPSuffix)
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
