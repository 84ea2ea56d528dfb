// Package probe connects to a Redis as it is, and proposes the annotations for it. [Prober.Probe] collects the facts of
// each port: TLS, plaintext, certificates, and what the server announces to its clients. [Report.Suggest] derives the
// annotations from the facts, and gives them to the parser of the webhook, so that it prints none that would be
// refused. [Text], [Short] and [YAML] print a report.
package probe

import (
	"net/netip"
	"time"
)

// APIVersion and Kind are those of a Report.
const (
	APIVersion = "redis-tls/v1"
	Kind       = "ProbeReport"
)

// Report is the result of a probe. Its JSON is stable.
type Report struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Host is the name or the IP of the Redis, and Port the one that was given; 0 if none was.
	Host string `json:"host"`
	Port uint16 `json:"port,omitempty"`
	// SNI is the server name that was given for the handshake.
	SNI string `json:"sni,omitempty"`
	// From is the pod that the probe ran in; empty for this machine.
	From string `json:"from,omitempty"`
	// Addresses are those of the host.
	Addresses []netip.Addr `json:"addresses"`
	// Endpoints are the ports of each address, sorted.
	Endpoints []Endpoint `json:"endpoints"`
	// Server has what the Redis says about itself, nil if it was not requested.
	Server *Server `json:"server,omitempty"`
	// Provider is the service that the name belongs to, nil if it is not known.
	Provider *Provider `json:"provider,omitempty"`
	// Findings stop TLS from working. Warnings do not. Undecided are the decisions that are left to the user.
	Findings  []string `json:"findings"`
	Warnings  []string `json:"warnings"`
	Undecided []string `json:"undecided"`
	// Annotations are the proposal for the pod template; empty if there is none.
	Annotations map[string]string `json:"annotations,omitempty"`
	// ConfigMap has the CA bundle that the annotations name, nil if they name none or if the CA is not known.
	ConfigMap *ConfigMap `json:"configMap,omitempty"`
}

// ConfigMap is the object with a CA bundle.
type ConfigMap struct {
	Name string `json:"name"`
	// Key is the key of the bundle, and Bundle the certificates in PEM.
	Key    string `json:"key"`
	Bundle string `json:"bundle"`
}

// Endpoint has the facts of one port of one address.
type Endpoint struct {
	Address netip.AddrPort `json:"address"`
	// Closed says why no connection was possible; empty if one was.
	Closed string `json:"closed,omitempty"`
	// Plaintext is the reply to PING without TLS, as "+PONG"; empty if no Redis replied.
	Plaintext string `json:"plaintext,omitempty"`
	// Other is the first line of a reply that is not one of a Redis.
	Other string `json:"other,omitempty"`
	// TLS is nil if the port has no TLS.
	TLS *TLS `json:"tls,omitempty"`
}

// The values of TLS.ClientCertificate.
const (
	ClientCertificateNone     = "none"
	ClientCertificateOptional = "optional"
	ClientCertificateRequired = "required"
)

// TLS has the facts of a port with TLS.
type TLS struct {
	// Versions are the accepted ones of 1.2 and 1.3.
	Versions []string `json:"versions"`
	// Reply is the reply to PING; Error is why there is none.
	Reply string `json:"reply,omitempty"`
	Error string `json:"error,omitempty"`
	// Other is the first line of a reply that is not one of a Redis.
	Other string `json:"other,omitempty"`
	// ClientCertificate is none, optional or required. ClientCAs are the subjects of the CAs that the server accepts;
	// empty for any. ClientCertificateUsed reports that Reply is the one to a connection with the given certificate.
	ClientCertificate     string   `json:"clientCertificate"`
	ClientCAs             []string `json:"clientCAs,omitempty"`
	ClientCertificateUsed bool     `json:"clientCertificateUsed,omitempty"`
	// Chain is what the server sends, its own certificate first.
	Chain []Certificate `json:"chain,omitempty"`
	// TrustedBy is "file" or "system", empty if neither verifies the chain. TrustProblem is then the reason.
	TrustedBy    string `json:"trustedBy,omitempty"`
	TrustProblem string `json:"trustProblem,omitempty"`
	// Root is the trusted certificate that the chain ends in, nil without TrustedBy.
	Root *Certificate `json:"root,omitempty"`
	// NameMatches reports that the certificate has the host, or the SNI if one was given.
	NameMatches bool `json:"nameMatches"`
}

// Certificate has the facts of one certificate.
type Certificate struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Names     []string  `json:"names,omitempty"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	KeyUsages []string  `json:"keyUsages,omitempty"`
	CA        bool      `json:"ca"`
	// SHA256 is the fingerprint in hexadecimal digits.
	SHA256 string `json:"sha256"`
	PEM    string `json:"pem"`
}

// Server is what a Redis says about itself.
type Server struct {
	// Product and Version are those of INFO, as "redis" and "7.2.4".
	Product string `json:"product,omitempty"`
	Version string `json:"version,omitempty"`
	// Mode is standalone, cluster or sentinel, and Role master, slave or sentinel.
	Mode string `json:"mode,omitempty"`
	Role string `json:"role,omitempty"`
	// Nodes are those that the server announces to its clients: of its cluster, or of the masters of a Sentinel.
	Nodes []Node `json:"nodes,omitempty"`
	// Problem says why facts are missing.
	Problem string `json:"problem,omitempty"`
}

// Node is a server that clients are sent to.
type Node struct {
	// Host is a name or an IP, and Port the TLS port.
	Host string `json:"host"`
	Port uint16 `json:"port"`
	Role string `json:"role,omitempty"`
}

// Primary returns the endpoint that the proposal is about: the given port if it has TLS, and otherwise the first port
// with TLS, in the order in which they are probed. It is nil if none has.
func (r *Report) Primary() *Endpoint {
	for _, port := range ports(r.Port) {
		for i := range r.Endpoints {
			if e := &r.Endpoints[i]; e.Address.Port() == port && e.TLS != nil {
				return e
			}
		}
	}
	return nil
}

// usual are the ports that managed services and Sentinels have, in the order of preference.
var usual = []uint16{6379, 6380, 6378, 10000, 25061, 26379}

// ports returns the given port, unless it is 0, and the usual ones.
func ports(given uint16) []uint16 {
	var all []uint16
	if given != 0 {
		all = append(all, given)
	}
	for _, port := range usual {
		if port != given {
			all = append(all, port)
		}
	}
	return all
}

// Unreachable reports whether no port could be reached.
func (r *Report) Unreachable() bool {
	for i := range r.Endpoints {
		if r.Endpoints[i].Closed == "" {
			return false
		}
	}
	return true
}
