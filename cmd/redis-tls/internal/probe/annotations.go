package probe

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// annotations returns the proposal, nil if a finding prevents it.
func (p *proposal) annotations() (map[string]string, error) {
	t := p.primary.TLS
	if len(t.Chain) == 0 || t.Other != "" {
		return nil, nil
	}
	all := map[string]string{}
	set := func(key, value string) { all[origination.Prefix+key] = value }
	name := p.certifiedName()
	if name == "" {
		return nil, nil
	}
	if err := p.trust(set); err != nil {
		return nil, err
	}
	p.client(set)
	p.endpoint(set, name)
	return all, nil
}

// certifiedName returns the name that the sidecar must check: the host or the SNI, and otherwise another name of the
// certificate. It is empty, with a finding, if the certificate has none.
func (p *proposal) certifiedName() string {
	wanted := cmp.Or(p.SNI, p.Host)
	leaf := &p.primary.TLS.Chain[0]
	switch {
	case p.primary.TLS.NameMatches:
		return wanted
	case len(leaf.Names) == 0:
		p.finding("%s: the certificate has no subject alternative names, so the sidecar cannot check its name; "+
			"issue one with %s", p.primary.Address, wanted)
		return ""
	}
	name := nearest(leaf.Names, wanted)
	p.undecided("The certificate does not have the name %s. The proposal checks %s instead. "+
		"Use it only if that is the name of this Redis.", wanted, name)
	return name
}

// nearest returns the name that shares the longest end with the wanted one. Of equal ones, it is the first in the
// certificate.
func nearest(names []string, wanted string) string {
	shared := func(name string) int {
		n := 0
		for n < min(len(name), len(wanted)) && name[len(name)-1-n] == wanted[len(wanted)-1-n] {
			n++
		}
		return n
	}
	return slices.MaxFunc(slices.Clone(names), func(a, b string) int { return cmp.Compare(shared(a), shared(b)) })
}

// trust adds the CA, unless the system's roots verify the server.
func (p *proposal) trust(set func(key, value string)) error {
	t := p.primary.TLS
	if t.TrustedBy == "system" && !p.mutual() {
		return nil
	}
	name := objectName(p.Host, "-ca")
	switch ca := root(t.Chain, p.o.Now); {
	case t.TrustedBy == "system":
		// Without a CA of its own, mode mutual takes the CA bundle from the Secret of the client certificate.
		p.ConfigMap = &ConfigMap{Name: name, Key: "ca.crt", Bundle: t.Root.PEM}
		p.undecided("With a client certificate the system's roots are not used, so the ConfigMap has the public root %s. "+
			"Add others that the provider may change to.", t.Root.Subject)
	case t.TrustedBy == "file":
		file, err := ParseCA(p.o.CA)
		if err != nil {
			return err
		}
		p.ConfigMap = &ConfigMap{Name: name, Key: "ca.crt", Bundle: string(file.pem)}
	case len(p.o.CA) > 0:
		p.finding("%s: %s does not verify the certificate (%s); its issuer is %s", p.primary.Address, p.o.CAFile,
			t.TrustProblem, t.Chain[len(t.Chain)-1].Issuer)
	case ca != nil:
		p.ConfigMap = &ConfigMap{Name: name, Key: "ca.crt", Bundle: ca.PEM}
		p.undecided("The CA is private. It was taken from the server itself, over a connection that nothing verified. "+
			"Compare its SHA-256 fingerprint %s with a trusted source, or set --ca.", ca.SHA256)
	default:
		p.finding("%s: no CA of the system verifies the certificate, and the server does not send its root; "+
			"set --ca to the certificate of %s", p.primary.Address, t.Chain[len(t.Chain)-1].Issuer)
	}
	set("ca-configmap", name)
	return nil
}

// client adds the client certificate, if the server requires one.
func (p *proposal) client(set func(key, value string)) {
	t := p.primary.TLS
	switch {
	case p.mutual():
		name := objectName(p.Host, "-client")
		set("mode", "mutual")
		set("client-secret", name)
		p.undecided("Create the Secret %s of type kubernetes.io/tls with the client certificate.", name)
		if !t.ClientCertificateUsed {
			p.undecided("Whether the server accepts it is unknown. Run the probe with --cert and --key.")
		}
	case t.ClientCertificate == ClientCertificateOptional:
		p.undecided("The server accepts a client certificate and does not require one. " +
			"To send one, set redis-tls/mode and redis-tls/client-secret.")
	}
}

// mutual reports whether the proposal has a client certificate: the server requires one, or one was given and sent.
func (p *proposal) mutual() bool {
	t := p.primary.TLS
	return t.ClientCertificate == ClientCertificateRequired || t.ClientCertificateUsed
}

// endpoint adds the host or the addresses, with the ports and the name to check.
func (p *proposal) endpoint(set func(key, value string), name string) {
	var nodes []Node
	if p.Server != nil {
		nodes = p.Server.Nodes
	}
	hosts, addresses := split(nodes)
	_, err := netip.ParseAddr(p.Host)
	isName := err != nil
	if name != p.Host {
		set("subject-alt-names", name)
	}
	if p.SNI != "" && p.SNI != p.Host {
		set("sni", p.SNI)
	}
	port := p.primary.Address.Port()
	numbers := []uint16{port}
	for _, n := range nodes {
		numbers = append(numbers, n.Port)
	}
	switch {
	case isName && len(addresses) == 0:
		p.byName(set, hosts, numbers)
		return
	case isName:
		// A name that resolves to several addresses, or to other ones than its nodes, has no VIP with them.
		if name == p.Host {
			set("subject-alt-names", name)
		}
		if p.SNI == "" {
			set("sni", p.Host)
		}
		if slices.Equal(addresses, p.Addresses) && len(addresses) == 1 {
			set("host", p.Host)
		}
	case name == p.Host:
		set("subject-alt-names", name) // a private CA may have signed servers other than this one
	}
	if len(hosts) > 0 {
		p.undecided("The server announces names and IPs. Only the IPs are proposed. Annotate %s in an instance of their own.",
			strings.Join(hosts, ", "))
	}
	addresses = append(addresses, p.Addresses...)
	slices.SortFunc(addresses, netip.Addr.Compare)
	addresses = slices.Compact(addresses)
	texts := make([]string, len(addresses))
	for i, a := range addresses {
		texts[i] = a.String()
	}
	set("addresses", strings.Join(texts, ","))
	set("port", portRanges(numbers))
	p.dials(port)
}

// byName adds a host with its nodes.
func (p *proposal) byName(set func(key, value string), hosts []string, numbers []uint16) {
	set("host", p.Host)
	hosts = slices.DeleteFunc(hosts, func(h string) bool { return h == p.Host })
	if len(hosts) > 0 {
		set("nodes", nameRanges(hosts))
		p.undecided("The certificates of the other nodes were not read. Each must have the name of a node or of the host. " +
			"Run the probe for each of them.")
	}
	port := p.primary.Address.Port()
	ports := portRanges(numbers)
	if p.Port != 0 && p.Port != port && ports == strconv.Itoa(int(port)) && len(hosts) == 0 {
		set("port", strconv.Itoa(int(p.Port)))
		set("target-port", strconv.Itoa(int(port)))
		return
	}
	set("port", ports)
	p.dials(port)
}

// dials says which port the app must dial, if it is not the given one.
func (p *proposal) dials(port uint16) {
	switch {
	case p.Port == 0 && port != usual[0]:
		p.undecided("The app is expected to dial port %d. If it dials another one, write it as in %s:6379.", port, p.Host)
	case p.Port != 0 && p.Port != port:
		p.undecided("Port %d has no TLS. The app must dial port %d.", p.Port, port)
	}
}

// split divides nodes in names and addresses, sorted.
func split(nodes []Node) (hosts []string, addresses []netip.Addr) {
	for _, n := range nodes {
		switch addr, err := netip.ParseAddr(n.Host); {
		case n.Host == "": // clients use the host that they have
		case err == nil:
			addresses = append(addresses, addr.Unmap())
		default:
			hosts = append(hosts, strings.ToLower(strings.TrimSuffix(n.Host, ".")))
		}
	}
	slices.Sort(hosts)
	slices.SortFunc(addresses, netip.Addr.Compare)
	return slices.Compact(hosts), slices.Compact(addresses)
}
