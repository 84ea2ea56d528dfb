package origination

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Labels, annotations and other names that redis-tls writes. The user's keys are in the table of package annotation.
const (
	// Prefix is the prefix of all keys; "<instance>.redis-tls/" is that of a further instance.
	Prefix = "redis-tls/"
	// LabelInjected marks a pod that the webhook admitted with originations or settings.
	LabelInjected = "redis-tls/injected"
	// LabelKeyPrefix begins the labels that select a pod for the DestinationRules of its keys; see Label.
	LabelKeyPrefix = "redis-tls/to-"
	// LabelServer marks a pod as a Redis in the mesh, for the PeerAuthentication of its namespace; its value
	// is that of Settings.Server.
	LabelServer = "redis-tls/server"
	// LabelEgressPrefix begins the label that selects a restricted pod for its Sidecar; see EgressLabel.
	LabelEgressPrefix = "redis-tls/egress-"
	// LabelNamespace is the namespace label: "enabled" opts in, "disabled" disables redis-tls.
	LabelNamespace = "redis-tls/injection"
	// KeyInject is the pod label or annotation whose value "false" opts a pod out.
	KeyInject = "redis-tls/inject"
	// AnnotationStatus is the pod annotation with the request; see Status.
	AnnotationStatus = "redis-tls/status"
	// AnnotationVIPs is the pod annotation with the VIPs; see FormatVIPs.
	AnnotationVIPs = "redis-tls/vips"
	// AnnotationFirstUse is the pod annotation with the time of an admission before the objects existed, RFC 3339.
	AnnotationFirstUse = "redis-tls/first-use"
	// GateFirstUse is the scheduling gate of a pod that must not start before its objects exist.
	GateFirstUse = "redis-tls/first-use"
	// HostSuffix ends every private host name; VIPSuffix those behind a VIP, AtomSuffix those of addresses.
	HostSuffix = ".redis-tls.internal"
	VIPSuffix  = ".vip" + HostSuffix
	AtomSuffix = ".ip" + HostSuffix
	// MountRoot is the directory in istio-proxy below which CA bundles are mounted.
	MountRoot = "/etc/redis-tls/"
	// MountedCA is the file name of the CA bundle in an origination's mount.
	MountedCA = "ca.crt"
	// MountedCertificate and MountedKey are those of the client certificate, as in a kubernetes.io/tls Secret.
	MountedCertificate = "tls.crt"
	MountedKey         = "tls.key"
	// ManagedByLabel and ManagedBy mark the mesh objects that redis-tls manages.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	ManagedBy      = "redis-tls"
	// FieldManager is the field manager of all writes.
	FieldManager = "redis-tls"
)

// ClosedName is the name of the closed rule that covers a whole namespace.
const ClosedName = "redis-tls-closed"

// The ServiceEntry by which istiod acknowledges that it reads a namespace, and its host.
const (
	AcknowledgementName = "redis-tls-acknowledgement"
	AcknowledgementHost = "acknowledgement" + HostSuffix
)

// hashVersion begins every hash input, so that a later format never has the hashes of an older one.
const hashVersion = "redis-tls/v1"

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567")

// hashLength is the length of what Hash returns.
const hashLength = 16

// Hash returns 16 characters [a-z2-7], 80 bits of SHA-256 over the parts and the format's version.
// Parts are length-prefixed: ("ab","c") and ("a","bc") differ.
func Hash(parts ...string) string {
	text := make([]byte, 0, 256)
	part := func(p string) {
		text = strconv.AppendInt(text, int64(len(p)), 10)
		text = append(append(text, ':'), p...)
	}
	part(hashVersion)
	for _, p := range parts {
		part(p)
	}
	sum := sha256.Sum256(text)
	return lowerBase32.EncodeToString(sum[:10])
}

// MaxHostBytes is the length limit of a host: the 253 characters of a DNS name without the suffix of private hosts.
const MaxHostBytes = 253 - 1 - hashLength - len(VIPSuffix)

// DefaultInstance is the name of the instance whose keys have no name before the prefix.
const DefaultInstance = "default"

// KeyOf returns the full annotation key: redis-tls/<name>, or <instance>.redis-tls/<name>.
func KeyOf(instance, name string) string {
	if instance == DefaultInstance {
		return Prefix + name
	}
	return instance + "." + Prefix + name
}

// SetKey sets the key of a complete origination: a hash of the content of its mesh objects, except the VIPs. Families
// are those of the VIPs, "4", "6" or "46". The sources of mounted files are not in the key, because the objects have
// only their paths.
func (o *Origination) SetKey(namespace, families string) {
	roots := "mount"
	switch {
	case o.TLS.InsecureSkipVerify:
		roots = "none"
	case !o.TLS.OwnCA():
		roots = o.TLS.SystemRoots
	}
	if !o.Pinned() {
		families = ""
	}
	parts := []string{
		"key", namespace, families, o.Host, o.Protocol, fmt.Sprint(o.Addresses),
		fmt.Sprint(o.Ports), fmt.Sprint(o.Passthrough), string(o.TLS.Mode), roots, o.TLS.Credential(namespace), o.TLS.SNI,
		o.Connection.text(),
	}
	if len(o.Nodes) > 0 { // no name of a certificate has spaces
		nodes := "nodes"
		for _, node := range o.Nodes {
			nodes += " " + node.Host
		}
		parts = append(parts, nodes)
	}
	o.Key = Hash(append(parts, o.TLS.SubjectAltNames...)...)
}

// Label is the pod label key that selects a pod for the rules of its key.
func (o *Origination) Label() string { return LabelKeyPrefix + o.Key }

// PrivateHost is the host of a pinned origination in the mesh.
func (o *Origination) PrivateHost() string { return o.PrivateHostOf(o.Host) }

// PrivateHostOf is the host of one of its names in the mesh. No other rule, route or DNS record applies to it.
func (o *Origination) PrivateHostOf(name string) string { return name + "." + o.Key + VIPSuffix }

// PrivateHosts is the wildcard over the private hosts of the key.
func (o *Origination) PrivateHosts() string { return "*." + o.Key + VIPSuffix }

// EntryName is the name of the ServiceEntry, redis-tls-<slug>-<hash>, at most 63 characters. Hosts with protocol http
// have one for each host, with a VirtualService of the same name.
func (o *Origination) EntryName() string {
	if o.HTTP() {
		return ObjectName(o.Host, Hash("http entry", o.Host))
	}
	return ObjectName(o.Host, o.Key)
}

// EntryNameOf is the name of the ServiceEntry of a name.
func (o *Origination) EntryNameOf(name string) string {
	if name == o.Host {
		return o.EntryName()
	}
	return ObjectName(name, Hash("node", o.Key, name))
}

// RuleName is the name of the DestinationRule for the pods of the key.
func (o *Origination) RuleName() string { return ObjectName(o.Host, o.Key) }

// ClosedRuleName is the name of the DestinationRule for every other pod behind the VIP.
func (o *Origination) ClosedRuleName() string { return ClosedName + "-" + o.Key }

// Atom is a prefix of the server's own addresses with the ports that are dialled there.
type Atom struct {
	Prefix   netip.Prefix
	Ports    []int32 // sorted
	Protocol string  // lower case
	hash     string
}

// Atoms returns the atoms of the origination: one for each address of the server that the app may dial.
func (o *Origination) Atoms() []Atom {
	var atoms []Atom
	for _, p := range o.DialledAddresses() {
		ports := make([]int32, len(o.Ports))
		for i := range o.Ports {
			ports[i] = o.Ports[i].Number
		}
		atoms = append(atoms, Atom{Prefix: p, Ports: ports, Protocol: o.Protocol,
			hash: Hash("atom", p.String(), fmt.Sprint(ports), o.Protocol)})
	}
	return atoms
}

// Host is the private host of the atom.
func (a *Atom) Host() string { return a.hash + AtomSuffix }

// EntryName is the name of the atom's ServiceEntry.
func (a *Atom) EntryName() string { return ObjectName(addressSlug(a.Prefix), a.hash) }

// AtomRuleName is the name of the DestinationRule with the TLS settings of the pods with the label for an atom's host.
// There is only one, because Istio uses only the older of two rules for one host and selector.
func AtomRuleName(host, label string) string {
	return ObjectName("rule", Hash("atom rule", host, label))
}

// Group identifies the objects of one host: by the key of a pinned origination, the hash of an atom, or the host itself
// if the mesh knows it by its own name.
func Group(host string) string {
	for _, suffix := range []string{VIPSuffix, AtomSuffix} {
		if rest, found := strings.CutSuffix(host, suffix); found {
			return rest[strings.LastIndexByte(rest, '.')+1:]
		}
	}
	return host
}

// VolumeName is the name of the pod volume with CA bundle and client certificate, a DNS label.
func (o *Origination) VolumeName() string { return "redis-tls-" + Hash("volume", o.Host) }

// MountPath is the directory in istio-proxy where CA bundle and client certificate are mounted, with a trailing slash.
func (o *Origination) MountPath() string { return MountRoot + o.Host + "/" }

// ObjectName returns redis-tls-<slug>-<hash>, at most 63 characters. The hash makes it unique, the slug readable.
func ObjectName(host, hash string) string {
	const longest = 63 - len("redis-tls-") - 1 - hashLength
	slug := strings.TrimRight(host[:min(len(host), longest)], ".-")
	name := append(make([]byte, 0, 63), "redis-tls-"...)
	for _, c := range []byte(slug) {
		if c == '.' {
			c = '-'
		}
		name = append(name, c)
	}
	name = append(name, '-')
	return string(append(name, hash...))
}

var dashes = strings.NewReplacer(":", "-", "/", "-")

// addressSlug spells a prefix in the letters of a DNS label.
func addressSlug(p netip.Prefix) string {
	slug := dashes.Replace(AddressText(p))
	return "ip-" + strings.TrimLeft(slug, "-")
}
