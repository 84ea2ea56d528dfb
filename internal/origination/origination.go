// Package origination defines the domain: an [Origination] with its key and names, the request in a pod's annotation
// ([Status]), and the [Reason] of a decision. It is pure and imports no other package of this module.
package origination

import (
	"net/netip"
	"slices"
	"strings"
)

// CertificateName is the name of the cert-manager Certificate, and of its Secret with the issuer's client certificate.
// There is one for each service account, host and issuer of the namespace, so that pods of an older revision with
// another issuer keep theirs.
func (o *Origination) CertificateName() string {
	hash := Hash("certificate", o.Host, o.TLS.ServiceAccount, o.TLS.Issuer.String())
	return ObjectName(o.TLS.ServiceAccount+"."+o.Host, hash)
}

// Identity is the URI of the pod's service account in the issuer's certificate, in Istio's SPIFFE format. It has the
// namespace, so clients of two namespaces differ.
func (t *TLS) Identity(trustDomain, namespace string) string {
	return "spiffe://" + trustDomain + "/ns/" + namespace + "/sa/" + t.ServiceAccount
}

// Delivery returns the value of the annotation.
func (t *TLS) Delivery() string {
	if t.SDS {
		return "sds"
	}
	return "mount"
}

// Credential returns the credentialName by which Istio delivers CA bundle and client certificate to pods of the
// namespace; empty if they are mounted.
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

// InMesh reports whether the server is a Service of the mesh with its own sidecar (mode istio-mutual). It has no VIP
// and no mounts, and the mesh knows the host by its real name.
func (o *Origination) InMesh() bool { return o.TLS.Mode == ModeIstioMutual }

// Service returns namespace and name of the Service in the mesh.
func (o *Origination) Service() (namespace, name string) {
	name, rest, _ := strings.Cut(o.Host, ".")
	namespace, _, _ = strings.Cut(rest, ".")
	return namespace, name
}

// Mode says how TLS is originated; its values are those of the redis-tls/mode annotation.
type Mode string

// The modes.
const (
	ModeSimple      Mode = "simple"
	ModeMutual      Mode = "mutual"
	ModeIstioMutual Mode = "istio-mutual"
)

// Resolution says how the sidecar finds the server; its values are those of Istio's ServiceEntry.
type Resolution string

// The resolutions: by DNS name, one given address, or the address that the app dialled.
const (
	ResolutionDNS    Resolution = "DNS"
	ResolutionStatic Resolution = "STATIC"
	ResolutionNone   Resolution = "NONE"
)

// ProtocolHTTP makes the sidecar route by the Host header. The mesh then knows the host by its real name.
const ProtocolHTTP = "http"

// Port is a port that the app dials, with the TLS port of the server.
type Port struct {
	// Number is the port the app dials, 1-65535.
	Number int32
	// Target is the TLS port of the server, 1-65535; it may be equal to Number.
	Target int32
}

// TLS has the settings that decide which server is trusted.
type TLS struct {
	Mode Mode
	// CASecret or CAConfigMap, never both, is the name of the object in the pod's namespace that holds
	// the CA bundle. Both empty: the proxy's system roots.
	CASecret    string
	CAConfigMap string
	// CAKey is the key of the bundle in that object; empty with system roots.
	CAKey string
	// SystemRoots is the path of the CA bundle in the proxy's image; empty with a CA of the user, and if nothing is
	// verified.
	SystemRoots string
	// ClientSecret is the Secret in the pod's namespace with the client certificate, in the keys tls.crt and tls.key;
	// set only in ModeMutual. With an Issuer or a Certificate it is theirs.
	ClientSecret string
	// Issuer is the cert-manager issuer that signs the client certificate for the pod's ServiceAccount. Both are set, or
	// neither. See Origination.CertificateName.
	Issuer         Issuer
	ServiceAccount string
	// Certificate is the user's cert-manager Certificate whose Secret is ClientSecret.
	Certificate string
	// SDS makes Istio's secret discovery deliver the CA bundle and the client certificate; nothing is mounted.
	SDS bool
	// InsecureSkipVerify accepts any certificate; CA and names are then empty.
	InsecureSkipVerify bool
	// SNI is the server name that the handshake sends; empty sends none.
	SNI string
	// SubjectAltNames are the names of which the server's certificate must have one, sorted. Empty checks no name, which
	// is allowed only with a CA of the user.
	SubjectAltNames []string
}

// OwnCA reports whether the CA bundle is the user's, not the proxy's system roots.
func (t *TLS) OwnCA() bool { return t.CASecret != "" || t.CAConfigMap != "" }

// Origination is a Redis that a pod reaches over TLS. annotation.Resolve returns exactly one for each host: it merges
// the instances of one host, and refuses them if their TLS settings differ.
type Origination struct {
	// Instances are the names of its annotation instances, sorted; "default" is the one without a name.
	Instances []string
	// Host is the DNS name that the app dials: ASCII, lower case, without a trailing dot. With only addresses it is
	// derived from them (see HostSynthesised). It is the full name of a Service of the cluster, in any mode.
	Host string
	// Aliases are the shorter forms of a Service's name that the app may dial too, in ModeSimple and ModeMutual.
	Aliases []string
	// HostSynthesised reports that no host was set, so the app dials no name that could have a VIP.
	HostSynthesised bool
	// Nodes are further names by which the server sends its clients on, sorted by host. They share the TLS settings
	// and the ports of the host, and are resolved by DNS.
	Nodes []Name
	// Addresses are the server's addresses, masked and sorted; empty when the host is resolved by DNS.
	Addresses []netip.Prefix
	// Ports are the ports with TLS, sorted by number, at least one.
	Ports []Port
	// Passthrough are further ports of a pinned host that the app dials with its own TLS, sorted.
	Passthrough []int32
	// Protocol is the Istio port protocol, lower case; "tcp" by default.
	Protocol string
	TLS      TLS
	// Connection has the connection settings of the rule; zero fields keep Istio's defaults.
	Connection Connection
	// Key is the hash of the fields above that are in the mesh objects; see SetKey.
	Key string
	// VIPs are the addresses of Host in the pod's /etc/hosts: an IPv4 VIP, an IPv6 one or one of each, as configured.
	// mesh.VIPs draws them, and annotation.Resolve leaves them empty.
	VIPs []netip.Addr
	// ClusterIPs are the addresses of the Service in ModeIstioMutual; a headless Service has none.
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

// InCluster reports whether the server or a node of it is a Service of the cluster with TLS of its own, or a pod of
// one. It has a VIP, as a server outside the cluster has.
func (o *Origination) InCluster() bool {
	return len(o.Aliases) > 0 || slices.ContainsFunc(o.Nodes, func(node Name) bool { return len(node.Aliases) > 0 })
}

// HTTP reports whether the sidecar routes by the Host header.
func (o *Origination) HTTP() bool { return o.Protocol == ProtocolHTTP }

// Gated reports whether a pod must wait at the first-use gate until the objects exist: if it may dial the server's own
// address, or if it is routed by HTTP. A sidecar that knows the entry of an http host before the rule and the route
// would send the connection to the server's plain port.
func (o *Origination) Gated() bool { return !o.Pinned() || o.HTTP() || len(o.DialledAddresses()) > 0 }

// PortNumbers returns every port of the host that the app may dial, with TLS or passed through, sorted.
func (o *Origination) PortNumbers() []int32 {
	numbers := slices.Clone(o.Passthrough)
	for _, p := range o.Ports {
		numbers = append(numbers, p.Number)
	}
	slices.Sort(numbers)
	return numbers
}

// DialledAddresses are the server's own addresses that the app may dial. If a port has another target there are none:
// connections of neighbours to that address and port must not change.
func (o *Origination) DialledAddresses() []netip.Prefix {
	if slices.ContainsFunc(o.Ports, func(p Port) bool { return p.Target != p.Number }) {
		return nil
	}
	return o.Addresses
}
