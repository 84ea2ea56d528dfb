// Package origination is the vocabulary of the rest: what an [Origination] is, the names and hashes that follow
// from it, what is recorded on a pod ([Status]), and the [Reason] of a decision. It is pure and imports no other
// package of this module.
package origination

import (
	"net/netip"
	"slices"
	"strings"
)

// CertificateName is the name of the cert-manager Certificate, and of its Secret, which the issuer's
// client certificate is kept in: one for each service account, host and issuer of the namespace, so that pods
// with another issuer, of an older revision say, keep theirs.
func (o *Origination) CertificateName() string {
	return ObjectName(o.TLS.ServiceAccount+"."+o.Host, Hash("certificate", o.Host, o.TLS.ServiceAccount, o.TLS.Issuer.String()))
}

// Identity is the URI that names the pod's service account in the issuer's certificate, by Istio's format of
// SPIFFE: no two namespaces' clients can be confused.
func (t *TLS) Identity(trustDomain, namespace string) string {
	return "spiffe://" + trustDomain + "/ns/" + namespace + "/sa/" + t.ServiceAccount
}

// Delivery spells the annotation.
func (t *TLS) Delivery() string {
	if t.SDS {
		return "sds"
	}
	return "mount"
}

// Credential returns the credentialName by which Istio delivers CA bundle and client certificate to pods of
// the namespace; empty where they are mounted.
func (t *TLS) Credential(namespace string) string {
	switch {
	case !t.SDS:
		return ""
	case t.ClientSecret != "":
		return t.ClientSecret
	case t.CAConfigMap != "":
		return "configmap://" + namespace + "/" + t.CAConfigMap
	default:
		return t.CASecret
	}
}

// InMesh reports whether the server is a Service of the mesh, with a sidecar of its own (mode
// istio-mutual): there is no VIP and nothing to mount, and the mesh knows the host as it is.
func (o *Origination) InMesh() bool { return o.TLS.Mode == ModeIstioMutual }

// Service returns whose host it is in the mesh.
func (o *Origination) Service() (namespace, name string) {
	name, rest, _ := strings.Cut(o.Host, ".")
	namespace, _, _ = strings.Cut(rest, ".")
	return namespace, name
}

// Mode is how TLS is originated, by the names of the redis-tls/mode annotation.
type Mode string

// The modes.
const (
	ModeSimple      Mode = "simple"
	ModeMutual      Mode = "mutual"
	ModeIstioMutual Mode = "istio-mutual"
)

// Resolution is how the sidecar finds the server; the names are those of Istio's ServiceEntry.
type Resolution string

// The resolutions: by DNS name, one given address, or the address that the app dialled.
const (
	ResolutionDNS    Resolution = "DNS"
	ResolutionStatic Resolution = "STATIC"
	ResolutionNone   Resolution = "NONE"
)

// ProtocolHTTP has the sidecar route by the Host header, and the mesh know the host by its real name.
const ProtocolHTTP = "http"

// Port is one port that the app dials, and the server's TLS port behind it.
type Port struct {
	// Number is the port the app dials, 1-65535.
	Number int32
	// Target is the TLS port of the server, 1-65535; equal to Number where the two do not differ.
	Target int32
}

// TLS holds what decides whether the server is believed.
type TLS struct {
	Mode Mode
	// CASecret or CAConfigMap, never both, is the name of the object in the pod's namespace that holds
	// the CA bundle. Both empty: the proxy's system roots.
	CASecret    string
	CAConfigMap string
	// CAKey is the key of the bundle in that object; empty with system roots.
	CAKey string
	// SystemRoots is the path of the CA bundle in the proxy's image; empty with a CA of one's own, and where nothing
	// is verified.
	SystemRoots string
	// ClientSecret is the Secret in the pod's namespace with the client certificate, in the keys tls.crt
	// and tls.key; given in ModeMutual alone. With an Issuer or a Certificate it is theirs.
	ClientSecret string
	// Issuer is the cert-manager issuer that is to sign the client certificate for the pod's ServiceAccount;
	// both are given, or neither. See Origination.CertificateName.
	Issuer         Issuer
	ServiceAccount string
	// Certificate is the user's cert-manager Certificate that ClientSecret is of.
	Certificate string
	// SDS has Istio's secret discovery deliver the CA bundle and the client certificate; nothing is mounted.
	SDS bool
	// InsecureSkipVerify believes any certificate; neither CA nor names are given then.
	InsecureSkipVerify bool
	// SNI is the server name sent in the handshake; empty sends none.
	SNI string
	// SubjectAltNames are the names of which the server's certificate must carry one, sorted;
	// empty checks no name (allowed only with a CA of one's own).
	SubjectAltNames []string
}

// OwnCA reports whether the CA bundle is one of the user's, not the proxy's system roots.
func (t *TLS) OwnCA() bool { return t.CASecret != "" || t.CAConfigMap != "" }

// Origination is one Redis that a pod reaches over TLS. Resolve returns exactly one for each host:
// instances of a pod that name the same host are merged (their TLS must be equal, else refused).
type Origination struct {
	// Instances are the names of the annotation instances behind it, sorted; "default" is the one
	// without a name.
	Instances []string
	// Host is the DNS name that the app dials: ASCII, lower case, without a trailing dot. Where only
	// addresses were given it is synthesised from them (see HostSynthesised); in ModeIstioMutual it is the
	// full name of the Service.
	Host string
	// HostSynthesised says that no host was given, so there is no name that a pod could be pinned by.
	HostSynthesised bool
	// Addresses are the server's addresses, masked and sorted; empty when the host is resolved by DNS.
	Addresses []netip.Prefix
	// Ports are the ports with TLS, sorted by number, at least one.
	Ports []Port
	// Passthrough are further ports of a pinned host that the app dials with TLS of its own, sorted.
	Passthrough []int32
	// Protocol is the Istio port protocol, lower case; "tcp" unless given.
	Protocol string
	TLS      TLS
	// Connection holds what the rule says of connections; zero where Istio's defaults hold.
	Connection Connection
	// Key is the hash of all of the above that stands in the mesh objects; see SetKey.
	Key string
	// VIPs are the addresses that the pod's /etc/hosts gives for Host: an IPv4 VIP, an IPv6 one or one
	// of each, as configured. mesh.VIPs draws them, and annotation.Resolve leaves them empty.
	VIPs []netip.Addr
	// ClusterIPs are the addresses of the Service in ModeIstioMutual; none of a headless one.
	ClusterIPs []netip.Addr
}

// Resolution returns how the sidecar finds the server: DNS without addresses, STATIC for exactly one
// address, NONE (original destination) for several or a CIDR.
func (o *Origination) Resolution() Resolution {
	switch {
	case len(o.Addresses) == 0:
		return ResolutionDNS
	case len(o.Addresses) == 1 && o.Addresses[0].IsSingleIP():
		return ResolutionStatic
	default:
		return ResolutionNone
	}
}

// Pinned reports whether the app dials a name that the pod resolves to a VIP.
func (o *Origination) Pinned() bool {
	return !o.HostSynthesised && !o.InMesh() && o.Resolution() != ResolutionNone
}

// HTTP reports whether the sidecar routes by the Host header.
func (o *Origination) HTTP() bool { return o.Protocol == ProtocolHTTP }

// Gated reports whether the first pods must wait at the first-use gate until the objects exist: those that may dial the
// server's own address, and those that are routed by HTTP, for whatever address they dial, an entry that the
// sidecar knows a moment before its rule and route leads to the server's plain port.
func (o *Origination) Gated() bool { return !o.Pinned() || o.HTTP() || len(o.DialledAddresses()) > 0 }

// PortNumbers returns every port of the host that the app may dial: those with TLS and those passed
// through, sorted.
func (o *Origination) PortNumbers() []int32 {
	numbers := slices.Clone(o.Passthrough)
	for _, p := range o.Ports {
		numbers = append(numbers, p.Number)
	}
	slices.Sort(numbers)
	return numbers
}

// DialledAddresses are the server's own addresses by which the app may dial it. None where a port has another
// target: neighbours that dial the address on that port must reach what they always did.
func (o *Origination) DialledAddresses() []netip.Prefix {
	if slices.ContainsFunc(o.Ports, func(p Port) bool { return p.Target != p.Number }) {
		return nil
	}
	return o.Addresses
}
