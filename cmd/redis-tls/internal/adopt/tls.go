package adopt

import (
	"fmt"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
)

// tls writes the annotations of a rule's TLS settings for a pod. It returns the volumes of the sidecar that the rule
// reads, and why it cannot be translated, or "".
func (s settings) tls(t *template, tls *networkingapi.ClientTLSSettings, secrets func(name string) bool) (
	volumes []*source, reason string,
) {
	if tls.CaCrl != "" {
		return nil, "tls.caCrl: has no annotation; without it, revoked certificates would be accepted"
	}
	if tls.GetInsecureSkipVerify().GetValue() {
		s.set("insecure-skip-verify", "true")
	}
	switch tls.Mode {
	case networkingapi.ClientTLSSettings_ISTIO_MUTUAL:
		s.set("mode", "istio-mutual")
		return nil, ""
	case networkingapi.ClientTLSSettings_MUTUAL:
		s.set("mode", "mutual")
	}
	if tls.CredentialName != "" {
		return nil, s.credential(t, tls, secrets)
	}
	client := ""
	if tls.Mode == networkingapi.ClientTLSSettings_MUTUAL {
		if client, volumes, reason = t.clientFiles(tls); reason != "" {
			return nil, reason
		}
		s.set("client-secret", client)
	}
	if slices.Contains(systemRoots, tls.CaCertificates) || tls.GetInsecureSkipVerify().GetValue() {
		if client != "" {
			return nil, "tls.caCertificates: " + tls.CaCertificates + ": system roots cannot be used with a client " +
				"certificate of a Secret that has ca.crt; set redis-tls/ca-secret by hand"
		}
		return volumes, ""
	}
	source, err := t.source(tls.CaCertificates)
	switch {
	case err != nil:
		return nil, fmt.Sprintf("tls.caCertificates: %s: %s: %v", tls.CaCertificates, name(t.Object), err)
	case source == nil:
		return nil, notMounted("tls.caCertificates", tls.CaCertificates, t)
	}
	s.authority(source, client)
	return append(volumes, source), ""
}

// clientFiles returns the Secret of a client certificate, and the volumes with its files.
func (t *template) clientFiles(tls *networkingapi.ClientTLSSettings) (client string, volumes []*source, reason string) {
	for _, file := range []struct{ field, path, key string }{
		{"clientCertificate", tls.ClientCertificate, "tls.crt"},
		{"privateKey", tls.PrivateKey, "tls.key"},
	} {
		source, err := t.source(file.path)
		switch {
		case err != nil:
			return "", nil, fmt.Sprintf("tls.%s: %s: %s: %v", file.field, file.path, name(t.Object), err)
		case source == nil:
			return "", nil, notMounted("tls."+file.field, file.path, t)
		case source.kind != "Secret" || source.key != file.key:
			return "", nil, fmt.Sprintf("tls.%s: %s: is the key %s of %s %s; redis-tls requires a Secret with the key %s",
				file.field, file.path, source.key, source.kind, source.name, file.key)
		case client != "" && client != source.name:
			return "", nil, fmt.Sprintf("tls.%s: %s: is of another Secret than the certificate; put both into one Secret",
				file.field, file.path)
		}
		client = source.name
		volumes = append(volumes, source)
	}
	return client, volumes, ""
}

// authority writes the annotations of a CA bundle.
func (s settings) authority(ca *source, client string) {
	switch {
	case ca.kind == "ConfigMap":
		s.set("ca-configmap", ca.name)
	case ca.name != client:
		s.set("ca-secret", ca.name)
	}
	if ca.key != "ca.crt" {
		s.set("ca-key", ca.key)
	}
}

// credential writes the annotations of a credentialName: Istio's secret discovery.
func (s settings) credential(t *template, tls *networkingapi.ClientTLSSettings, secrets func(name string) bool) string {
	s.set("delivery", "sds")
	at := "tls.credentialName: " + tls.CredentialName + ": "
	if rest, found := strings.CutPrefix(tls.CredentialName, "configmap://"); found {
		namespace, name, _ := strings.Cut(rest, "/")
		if namespace != t.Namespace || tls.Mode == networkingapi.ClientTLSSettings_MUTUAL {
			return at + "must be a ConfigMap of the pod's namespace, with mode SIMPLE"
		}
		s.set("ca-configmap", name)
		return ""
	}
	credential := strings.TrimPrefix(tls.CredentialName, "kubernetes://")
	if strings.ContainsAny(credential, ":/") {
		return at + "must be the name of a Secret or ConfigMap of the pod's namespace"
	}
	authority := credential
	if secrets(credential + "-cacert") { // Istio reads the CA of both
		authority = credential + "-cacert"
	}
	if tls.Mode == networkingapi.ClientTLSSettings_MUTUAL {
		s.set("client-secret", credential)
		if authority == credential {
			return ""
		}
	}
	s.set("ca-secret", authority)
	return ""
}

func notMounted(field, file string, t *template) string {
	return fmt.Sprintf("%s: %s: the sidecar of %s does not have this file, so the rule fails there now; mount it first",
		field, file, name(t.Object))
}
