package origination

// Issuer names a cert-manager issuer (issuerRef of its Certificate).
type Issuer struct {
	// Kind is cert-manager's Issuer or ClusterIssuer, or one of another group's.
	Kind  string
	Group string
	Name  string
}

// The issuer that a name alone stands for, as in cert-manager: one of the own namespace.
const (
	IssuerKind  = "Issuer"
	IssuerGroup = "cert-manager.io"
)

// String returns "Kind.group/name", the form of policy.allowedIssuers.
func (i Issuer) String() string { return i.Kind + "." + i.Group + "/" + i.Name }

// Text spells the annotations; empty where there is no issuer.
func (i Issuer) Text() string {
	if i == (Issuer{}) {
		return ""
	}
	return i.String()
}

// Local reports whether the issuer is one of the own namespace, which everybody may use there.
func (i Issuer) Local() bool { return i.Kind == IssuerKind && i.Group == IssuerGroup }

// DefaultServiceAccount is that of a pod which names none.
const DefaultServiceAccount = "default"
