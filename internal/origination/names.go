package origination

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strconv"
	"strings"
)

// DefaultInstance is the name of the instance of which the keys have no name before the prefix.
const DefaultInstance = "default"

// KeyOf returns the full annotation key: redis-tls/<name>, or <instance>.redis-tls/<name>.
func KeyOf(instance, name string) string {
	if instance == DefaultInstance {
		return Prefix + name
	}
	return instance + "." + Prefix + name
}

// Labels, annotations and other names that we write. The user's keys are in the table (keys.go).
const (
	// Prefix is the prefix of all our keys; "<instance>.redis-tls/" is that of a further instance.
	Prefix = "redis-tls/"
	// LabelInjected marks a pod that we admitted with at least one origination.
	LabelInjected = "redis-tls/injected"
	// LabelRulePrefix begins the labels that select a pod for its DestinationRules; see RuleLabel.
	LabelRulePrefix = "redis-tls/to-"
	// LabelServer marks a pod as a Redis in the mesh, for the PeerAuthentication of its namespace; its value
	// is that of Settings.Server.
	LabelServer = "redis-tls/server"
	// LabelEgressPrefix begins the label that selects a restricted pod for its Sidecar; see EgressLabel.
	LabelEgressPrefix = "redis-tls/egress-"
	// LabelNamespace is the namespace label: "enabled" opts in, "disabled" switches all off.
	LabelNamespace = "redis-tls/injection"
	// KeyInject is the pod label or annotation of which "false" opts a pod out.
	KeyInject = "redis-tls/inject"
	// AnnotationStatus is the pod annotation in which we record what was resolved; see Status.
	AnnotationStatus = "redis-tls/status"
	// GateFirstUse is the scheduling gate of an unpinned pod whose objects do not exist yet.
	GateFirstUse = "redis-tls/first-use"
	// HostSuffix ends the private host names under which the mesh knows an origination.
	HostSuffix = ".redis-tls.internal"
	// MountRoot is the directory in istio-proxy below which CA bundles are mounted.
	MountRoot = "/etc/redis-tls/"
	// MountedCA is the file name of the CA bundle in an origination's mount.
	MountedCA = "ca.crt"
	// MountedCertificate and MountedKey are those of the client certificate, as in a kubernetes.io/tls Secret.
	MountedCertificate = "tls.crt"
	MountedKey         = "tls.key"
	// ManagedByLabel and ManagedBy mark the mesh objects that are ours.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	ManagedBy      = "redis-tls"
	// FieldManager is our field manager in server-side apply.
	FieldManager = "redis-tls"
)

// hashVersion begins every hash input, so that a later format can never meet an older one by accident.
const hashVersion = "redis-tls/v1"

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567")

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

// PrivateHost is a name of ours for the host: nobody else's rules, routes or DNS are touched by it.
func (o *Origination) PrivateHost() string { return o.Host + HostSuffix }

// EntryName is the name of the host's ServiceEntry, and of its VirtualService if it has one:
// redis-tls-<slug>-<hash>, at most 63 characters. While a workload changes to http or back, both entries stand.
func (o *Origination) EntryName() string {
	if o.HTTP() {
		return ObjectName(o.Host, Hash("http entry", o.Host))
	}
	return ObjectName(o.Host, Hash("entry", o.Host))
}

// RuleName is the name of the DestinationRule for the host and these TLS settings.
func (o *Origination) RuleName() string { return ObjectName(o.Host, o.ruleHash()) }

// RuleLabel is the pod label key that selects a pod for that rule. It names the settings too, so that
// pods with different settings for one host each get their own rule.
func (o *Origination) RuleLabel() string { return LabelRulePrefix + o.ruleHash() }

// ruleHash covers all that differs between two rules of one host: the TLS settings as the rule spells
// them (where mounted files come from is the mount's business), those of connections, and the ports left to
// the app's own TLS.
// The ports with TLS are not in it: a rule covers every port of its host's entry save the
// passed-through ones, so a port that only another pod asked for cannot be dialled in plaintext. A
// Service of the mesh has no entry of ours, so there the rule is for its own pods' ports.
func (o *Origination) ruleHash() string {
	roots := "mount"
	switch {
	case o.TLS.InsecureSkipVerify:
		roots = "none"
	case !o.TLS.OwnCA():
		roots = "system"
	}
	roots += o.TLS.Credential("")
	ports := o.Passthrough
	if o.InMesh() {
		ports = o.PortNumbers()
	}
	parts := make([]string, 0, 8)
	parts = append(parts, "rule", o.Host, string(o.TLS.Mode), roots, o.TLS.SNI, fmt.Sprint(ports)+o.Connection.text())
	if o.HTTP() {
		parts[0] = "http rule"
	}
	return Hash(append(parts, o.TLS.SubjectAltNames...)...)
}

// VolumeName is the name of the pod volume with CA bundle and client certificate, a DNS label.
func (o *Origination) VolumeName() string { return "redis-tls-" + Hash("volume", o.Host) }

// MountPath is the directory in istio-proxy where CA bundle and client certificate are mounted, with a trailing slash.
func (o *Origination) MountPath() string { return MountRoot + o.Host + "/" }

// ObjectName returns redis-tls-<slug>-<hash>, at most 63 characters. The hash alone makes it unique; the slug is for people.
func ObjectName(host, hash string) string {
	const longest = 63 - len("redis-tls-") - 1 - 16
	slug := strings.ReplaceAll(host, ".", "-")
	if len(slug) > longest {
		slug = slug[:longest]
	}
	return "redis-tls-" + strings.TrimRight(slug, "-") + "-" + hash
}
