package probe

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Options complete a proposal.
type Options struct {
	// CA is the given bundle in PEM, and CAFile the name of its file, for messages.
	CA     []byte
	CAFile string
	// Namespace is that of the pod.
	Namespace string
	// Config is that of the webhook, whose policy the proposal is checked against.
	Config config.Config
	// GivenAddresses reports that DNS was not used.
	GivenAddresses bool
	Now            time.Time
}

// proposal is a Report to which findings, warnings, open decisions and annotations are added.
type proposal struct {
	*Report
	o       Options
	primary *Endpoint
}

// Suggest derives findings and annotations from the facts.
func (r *Report) Suggest(o Options) error {
	r.Findings, r.Warnings, r.Undecided = []string{}, []string{}, []string{}
	r.Annotations, r.ConfigMap = nil, nil
	r.Provider = cmp.Or(providerOf(r.Host), byPort(r.Primary()))
	p := &proposal{Report: r, o: o, primary: r.Primary()}
	p.everyPort()
	if p.primary == nil {
		p.withoutTLS()
		return nil
	}
	p.server()
	p.certificate()
	p.addresses()
	annotations, err := p.annotations()
	if err != nil {
		return err
	}
	if annotations != nil {
		p.check(annotations)
	}
	return nil
}

func (p *proposal) finding(format string, args ...any) {
	p.Findings = append(p.Findings, fmt.Sprintf(format, args...))
}

func (p *proposal) warning(format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
}

func (p *proposal) undecided(format string, args ...any) {
	p.Undecided = append(p.Undecided, fmt.Sprintf(format, args...))
}

// everyPort warns of what ports show that are not the one of the proposal.
func (p *proposal) everyPort() {
	for i := range p.Endpoints {
		e := &p.Endpoints[i]
		switch {
		case e.TLS != nil && e.Plaintext != "":
			p.warning("%s: ACCEPTS PLAINTEXT AND TLS on one port; a client without TLS is answered. "+
				"Disable plaintext in the server", e.Address)
		case e.Plaintext != "" && p.primary != nil:
			p.warning("%s: accepts plaintext; disable it in the server once no client uses it", e.Address)
		}
	}
	if p.primary == nil {
		return
	}
	var further []string
	for i := range p.Endpoints {
		e := &p.Endpoints[i]
		if e.TLS != nil && e.Address.Addr() == p.primary.Address.Addr() && e != p.primary {
			further = append(further, fmt.Sprint(e.Address.Port()))
		}
	}
	if len(further) > 0 {
		p.undecided("Port %s has TLS too. If the app dials it, add it to redis-tls/port.", strings.Join(further, ", "))
	}
}

// withoutTLS is the finding of a host without TLS.
func (p *proposal) withoutTLS() {
	for i := range p.Endpoints {
		if e := &p.Endpoints[i]; e.Other != "" {
			p.finding("%s: is no Redis, it answers %q; check the port", e.Address, e.Other)
		}
	}
	text := "no port has TLS"
	if p.Port == 0 {
		text += "; if it has another port, write it as in " + p.Host + ":16222"
	}
	if p.Provider != nil && p.Provider.TLSName != "" {
		text = fmt.Sprintf("no port has TLS; this is a name of %s without TLS. With in-transit encryption the name is %s",
			p.Provider.Name, p.Provider.TLSName)
	} else if slices.ContainsFunc(p.Endpoints, func(e Endpoint) bool { return e.Plaintext != "" }) {
		text += "; enable TLS in the server"
	}
	p.finding("%s: %s", p.Host, text)
}

// server adds the findings about the replies in TLS.
func (p *proposal) server() {
	t, address := p.primary.TLS, p.primary.Address
	switch {
	case t.Other != "":
		p.finding("%s: is no Redis, it answers %q in TLS; check the port", address, t.Other)
	case len(t.Chain) == 0:
		p.finding("%s: the TLS handshake fails (%s); the sidecar requires TLS 1.2 or 1.3", address, t.Error)
	case t.ClientCertificateUsed && t.Reply == "" && t.ClientCertificate != ClientCertificateNone:
		p.finding("%s: refuses the client certificate of --cert (%s); use one that %s signed", address, t.Error,
			cmp.Or(strings.Join(t.ClientCAs, " or "), "a CA of the server"))
	case t.Reply == "" && t.ClientCertificate != ClientCertificateRequired:
		p.finding("%s: does not answer PING in TLS (%s); check the port", address, t.Error)
	case strings.HasPrefix(t.Reply, "-DENIED"):
		p.finding("%s: refuses this client (%s); disable protected-mode, or set a password", address, t.Reply)
	}
	if p.Server != nil && p.Server.Problem != "" {
		p.serverProblem()
	}
}

// serverProblem says why the nodes are not known.
func (p *proposal) serverProblem() {
	switch problem := p.Server.Problem; {
	case strings.HasPrefix(problem, "WRONGPASS"):
		p.finding("%s: the credentials are wrong (%s); check --user and --password-file", p.primary.Address, problem)
	case strings.Contains(problem, errUnverified.Error()):
		p.undecided("The password was not sent, because the certificate is not verified. " +
			"Nodes that the server announces are unknown.")
	case strings.HasPrefix(problem, "NOAUTH"):
		p.undecided("The server requires credentials (%s), so the nodes that it announces are unknown. "+
			"Set --password-file, and --user for an ACL.", problem)
	default:
		p.undecided("The nodes that the server announces are unknown: %s. If it is a cluster or a Sentinel, "+
			"list them in redis-tls/nodes.", problem)
	}
}

// soon is the time before the end of a certificate in which it is warned about.
const soon = 14 * 24 * time.Hour

// certificate adds the findings about dates and key usages. Trust and names are those of annotations.
func (p *proposal) certificate() {
	chain := p.primary.TLS.Chain
	if len(chain) == 0 {
		return
	}
	leaf, address := &chain[0], p.primary.Address
	switch end := leaf.NotAfter; {
	case p.o.Now.After(end):
		p.finding("%s: the certificate expired at %s; renew it", address, end.Format(time.RFC3339))
	case p.o.Now.Before(leaf.NotBefore):
		p.finding("%s: the certificate is valid only from %s; check the clocks", address, leaf.NotBefore.Format(time.RFC3339))
	case end.Sub(p.o.Now) < soon:
		p.warning("%s: the certificate expires at %s", address, end.Format(time.RFC3339))
	}
	usable := len(leaf.KeyUsages) == 0 || slices.Contains(leaf.KeyUsages, "server auth") ||
		slices.Contains(leaf.KeyUsages, "any")
	if !usable {
		p.finding("%s: the certificate has the key usages %s; a server requires \"server auth\"", address,
			strings.Join(leaf.KeyUsages, ", "))
	}
}

// addresses adds the findings about addresses whose port differs from the one of the proposal.
func (p *proposal) addresses() {
	if n := len(p.Addresses) - maxAddresses; n > 0 {
		p.undecided("Only %d addresses were dialled; %d further ones were not.", maxAddresses, n)
	}
	if p.o.GivenAddresses {
		p.undecided("DNS was not used, because of --address. DNS in the cluster must resolve %s.", p.Host)
	}
	for i := range p.Endpoints {
		e := &p.Endpoints[i]
		if e.Address.Port() != p.primary.Address.Port() || e == p.primary {
			continue
		}
		switch t := e.TLS; {
		case e.Closed != "":
			p.finding("%s: cannot be reached (%s), unlike %s; remove the address from DNS, or start the server",
				e.Address, e.Closed, p.primary.Address)
		case t == nil:
			p.finding("%s: has no TLS, unlike %s; enable it there too", e.Address, p.primary.Address)
		case t.TrustedBy != p.primary.TLS.TrustedBy || t.NameMatches != p.primary.TLS.NameMatches:
			p.finding("%s: its certificate has another CA or other names than that of %s; use equal ones", e.Address,
				p.primary.Address)
		}
	}
}

// check gives the annotations to the parser of the webhook. A proposal that it would refuse is a finding.
func (p *proposal) check(annotations map[string]string) {
	result := annotation.Resolve(annotation.Input{
		Namespace: p.o.Namespace, Annotations: annotations, Partial: true,
	}, p.o.Config, nil)
	p.Warnings = append(p.Warnings, result.Warnings...)
	if len(result.Errors) > 0 {
		for _, err := range result.Errors {
			p.finding("The webhook would refuse the proposal. %s", err)
		}
		return
	}
	if slices.ContainsFunc(result.Originations, func(o origination.Origination) bool {
		return o.TLS.InsecureSkipVerify || len(o.TLS.SubjectAltNames) == 0
	}) {
		p.finding("%s: no annotations are proposed, because they would not check the server's name", p.Host)
		return
	}
	p.Annotations = maps.Clone(annotations)
}

// label is what a name of an object may have.
var label = regexp.MustCompile(`[^a-z0-9]+`)

// objectName returns a name for an object about the host, with the suffix.
func objectName(host, suffix string) string {
	base := host
	if _, err := netip.ParseAddr(host); err == nil {
		base = "redis-" + host
	} else {
		base, _, _ = strings.Cut(host, ".")
	}
	base = strings.Trim(label.ReplaceAllString(strings.ToLower(base), "-"), "-")
	return base[:min(len(base), 50)] + suffix
}
