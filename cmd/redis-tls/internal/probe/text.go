package probe

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Painter colours text; see package term.
type Painter interface {
	Green(text string) string
	Yellow(text string) string
	Red(text string) string
	Bold(text string) string
}

// printer writes a report, and keeps the first error.
type printer struct {
	out   io.Writer
	paint Painter
	err   error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format+"\n", args...)
	}
}

// Text prints the report for people: ports, certificate, server, provider, findings, and the proposal.
func Text(out io.Writer, r *Report, paint Painter, now time.Time) error {
	p := &printer{out: out, paint: paint}
	p.ports(r)
	if primary := r.Primary(); primary != nil {
		p.certificate(r, primary, now)
	}
	p.server(r)
	p.provider(r)
	p.findings(r)
	p.proposal(r)
	return p.err
}

// Short prints findings and the proposal.
func Short(out io.Writer, r *Report, paint Painter) error {
	p := &printer{out: out, paint: paint}
	p.findings(r)
	for _, key := range slices.Sorted(maps.Keys(r.Annotations)) {
		p.line("%s: %q", key, r.Annotations[key])
	}
	return p.err
}

func (p *printer) ports(r *Report) {
	at := r.Host
	if r.Port != 0 {
		at = fmt.Sprintf("%s:%d", r.Host, r.Port)
	}
	if r.From != "" {
		at += ", from " + r.From
	}
	p.line("%s\n", p.paint.Bold(at))
	table := tabwriter.NewWriter(p.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "ADDRESS\tTLS\tREPLY IN TLS\tCLIENT CERTIFICATE\tREPLY IN PLAINTEXT")
	type shut struct {
		addr   netip.Addr
		reason string
	}
	closed := map[shut][]string{}
	for i := range r.Endpoints {
		e := &r.Endpoints[i]
		if e.Closed != "" {
			at := shut{e.Address.Addr(), e.Closed}
			closed[at] = append(closed[at], fmt.Sprint(e.Address.Port()))
			continue
		}
		versions, reply, client := "-", "-", "-"
		if t := e.TLS; t != nil {
			versions, reply = cmp.Or(strings.Join(t.Versions, ", "), "-"), cmp.Or(t.Reply, t.Other, t.Error, "-")
			client = t.ClientCertificate
			if t.ClientCertificateUsed {
				client += ", sent"
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", e.Address, versions, reply, client, cmp.Or(e.Plaintext, e.Other, "-"))
	}
	p.err = cmp.Or(p.err, table.Flush())
	order := func(a, b shut) int { return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.reason, b.reason)) }
	for _, at := range slices.SortedFunc(maps.Keys(closed), order) {
		p.line("%s: no connection at %s (%s)", at.addr, strings.Join(closed[at], ", "), at.reason)
	}
}

func (p *printer) certificate(r *Report, e *Endpoint, now time.Time) {
	t := e.TLS
	if len(t.Chain) == 0 {
		return
	}
	leaf := &t.Chain[0]
	p.line("\n%s", p.paint.Bold("Certificate of "+e.Address.String()))
	p.line("  subject      %s", leaf.Subject)
	p.line("  issuer       %s", leaf.Issuer)
	p.line("  names        %s", cmp.Or(strings.Join(leaf.Names, ", "), "none"))
	p.line("  valid        %s to %s", leaf.NotBefore.Format(time.DateOnly), p.end(leaf, now))
	p.line("  key usages   %s", cmp.Or(strings.Join(leaf.KeyUsages, ", "), "any"))
	for _, c := range t.Chain[1:] {
		p.line("  sent too     %s, issued by %s, to %s", c.Subject, c.Issuer, p.end(&c, now))
	}
	switch t.TrustedBy {
	case "file":
		p.line("  trusted      %s by the CA file: %s", p.paint.Green("√"), t.Root.Subject)
	case "system":
		p.line("  trusted      %s by the system's roots: %s", p.paint.Green("√"), t.Root.Subject)
	default:
		p.line("  trusted      %s %s", p.paint.Red("×"), t.TrustProblem)
	}
	name := cmp.Or(r.SNI, r.Host)
	if t.NameMatches {
		p.line("  name         %s %s", p.paint.Green("√"), name)
	} else {
		p.line("  name         %s does not have %s", p.paint.Red("×"), name)
	}
	if len(t.ClientCAs) > 0 {
		p.line("  client CAs   %s", strings.Join(t.ClientCAs, "; "))
	}
}

// end is the last day of a certificate, with the time left.
func (p *printer) end(c *Certificate, now time.Time) string {
	left := c.NotAfter.Sub(now)
	text := c.NotAfter.Format(time.DateOnly)
	switch days := int(left.Hours() / 24); {
	case left < 0:
		return text + p.paint.Red(" (expired)")
	case left < soon:
		return text + p.paint.Yellow(fmt.Sprintf(" (%d days left)", days))
	default:
		return fmt.Sprintf("%s (%d days left)", text, days)
	}
}

func (p *printer) server(r *Report) {
	s := r.Server
	if s == nil || s.Mode == "" && s.Role == "" && len(s.Nodes) == 0 {
		return
	}
	facts := slices.DeleteFunc([]string{strings.TrimSpace(s.Product + " " + s.Version), s.Mode, s.Role},
		func(f string) bool { return f == "" })
	p.line("\n%s\n  %s", p.paint.Bold("Server"), strings.Join(slices.Compact(facts), ", "))
	for _, n := range s.Nodes {
		p.line("  announces    %s:%d, %s", cmp.Or(n.Host, r.Host), n.Port, cmp.Or(n.Role, "node"))
	}
}

func (p *printer) provider(r *Report) {
	if r.Provider == nil {
		return
	}
	p.line("\n%s", p.paint.Bold("Provider"))
	p.line("  %s%s", r.Provider.Name, guess(r.Provider.Guess))
	for _, f := range r.Provider.Facts {
		p.line("  - %s%s", f.Text, guess(f.Guess))
	}
}

func guess(is bool) string {
	if is {
		return " (a guess)"
	}
	return ""
}

func (p *printer) findings(r *Report) {
	if len(r.Findings)+len(r.Warnings)+len(r.Undecided) > 0 {
		p.line("")
	}
	for _, f := range r.Findings {
		p.line("%s %s", p.paint.Red("×"), f)
	}
	for _, w := range r.Warnings {
		p.line("%s %s", p.paint.Yellow("‼"), w)
	}
	for _, u := range r.Undecided {
		p.line("%s %s", p.paint.Yellow("?"), u)
	}
}

func (p *printer) proposal(r *Report) {
	if len(r.Annotations) == 0 {
		p.line("\nNo annotations are proposed.")
		return
	}
	p.line("\n%s\n", p.paint.Bold("Annotations for the pod template"))
	if p.err == nil {
		p.err = YAML(p.out, r)
	}
}

// YAML prints the annotations, and the ConfigMap after them. It prints nothing if there is no proposal.
func YAML(out io.Writer, r *Report) error {
	if len(r.Annotations) == 0 {
		return nil
	}
	p := &printer{out: out}
	p.line("annotations:")
	for _, key := range slices.Sorted(maps.Keys(r.Annotations)) {
		p.line("  %s: %q", key, r.Annotations[key])
	}
	if r.ConfigMap != nil {
		p.line("---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\ndata:", r.ConfigMap.Name)
		p.line("  %s: |", r.ConfigMap.Key)
		for text := range strings.Lines(r.ConfigMap.Bundle) {
			p.line("    %s", strings.TrimSuffix(text, "\n"))
		}
	}
	return p.err
}
