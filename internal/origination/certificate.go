package origination

// Issuer names a cert-manager issuer (issuerRef of its Certificate).
type Issuer struct {
	// Kind is cert-manager's Issuer or ClusterIssuer, or a kind of another group.
	Kind  string
	Group string
	Name  string
}

// The defaults of kind and group, as in cert-manager: an Issuer of the pod's namespace.
const (
	IssuerKind  = "Issuer"
	IssuerGroup = "cert-manager.io"
)

// String returns "Kind.group/name", the form of policy.allowedIssuers.
func (i Issuer) String() string { return i.Kind + "." + i.Group + "/" + i.Name }

// Text returns the issuer as in String; empty without an issuer.
func (i Issuer) Text() string {
	if i == (Issuer{}) {
		return ""
	}
	return i.String()
}

// Local reports whether the issuer is one of the pod's namespace, which every pod there may use.
func (i Issuer) Local() bool { return i.Kind == IssuerKind && i.Group == IssuerGroup }

// DefaultServiceAccount is the service account of a pod that names none.
const DefaultServiceAccount = "default"
