package adopt

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
)

// compare writes what becomes safer by the request, and what the user must check before.
func (r *request) compare(t *template, u users, e *networkingv1.ServiceEntry, tls *networkingapi.ClientTLSSettings,
	ports []dialledPort) {
	safer := func(format string, args ...any) { r.safer = append(r.safer, fmt.Sprintf(format, args...)) }
	check := func(format string, args ...any) { r.check = append(r.check, fmt.Sprintf(format, args...)) }
	selected := r.rule.typed.Spec.WorkloadSelector != nil
	inMesh := tls.Mode == networkingapi.ClientTLSSettings_ISTIO_MUTUAL
	if !inMesh {
		r.compareTLS(tls, safer, check)
	}
	if len(r.hosts) > 0 && len(r.aliases) == 0 && !inMesh {
		safer("VIP: %s resolves to an address that only the sidecar knows. Before, a connection was in plaintext "+
			"while the sidecar, the entry or the rule was missing.", strings.Join(r.hosts, ", "))
	}
	if len(r.hosts) > 0 && ports[0].protocol != "http" && !inMesh {
		safer("Closed rule: a copy of the pod without its labels cannot connect. Before, it sent plaintext to the server.")
	}
	if !selected && len(u.neighbours) > 0 {
		files := filesOf(r.rule.typed)
		lacking := only(u.neighbours, func(n *template) bool { return !n.hasFiles(files) })
		if len(files) > 0 && len(lacking) > 0 {
			safer("Neighbours: the rule has no workloadSelector. %s received it too, and cannot read its files.",
				listOf(lacking))
		} else {
			safer("Neighbours: the rule has no workloadSelector, so it changed the traffic of %s too.", listOf(u.neighbours))
		}
	}
	if e != nil && len(e.Spec.Addresses) == 0 && ports[0].protocol != "http" {
		safer("Port: the entry has no addresses. It received every TCP connection of the namespace to port %d.",
			ports[0].number)
	}
	if e != nil && slices.Contains(mesh.ExportedTo(e), mesh.Everywhere) {
		safer("Namespaces: the entry applied to every namespace. The objects of redis-tls apply to namespace %s only.",
			t.Namespace)
	}
	for _, s := range r.sources {
		if s.subPath {
			safer("Rotation: volume %s is mounted by subPath, so a renewed %s did not reach the sidecar.", s.volume, s.kind)
		}
		if s.inline {
			check("spec.volumes: %s and its mount in istio-proxy stay. Remove them if nothing else uses them.", s.volume)
		}
	}
	if balancer := r.rule.typed.Spec.GetTrafficPolicy().GetLoadBalancer(); balancer != nil {
		check("loadBalancer: has no annotation. The rule of redis-tls has the default of Istio.")
	}
	for _, key := range slices.Sorted(maps.Keys(r.rule.typed.Spec.GetWorkloadSelector().GetMatchLabels())) {
		check("metadata.labels: %s stays. Remove it if nothing else selects by it.", key)
	}
	if strings.Contains(t.pod.Annotations["proxy.istio.io/config"], "DNS_CAPTURE") {
		check("proxy.istio.io/config: enables DNS capture, and stays. redis-tls does not need it, other hosts may.")
	}
}

// compareTLS is the part of compare about the TLS settings.
func (r *request) compareTLS(tls *networkingapi.ClientTLSSettings, safer, check func(format string, args ...any)) {
	authority := "the CA bundle"
	system := slices.Contains(systemRoots, tls.CaCertificates) && tls.CredentialName == ""
	if system {
		authority = "a public authority"
	}
	unnamed := len(tls.SubjectAltNames) == 0 && !tls.GetInsecureSkipVerify().GetValue()
	switch {
	case unnamed && len(r.addresses) == 0:
		safer("Name check: the rule has no subjectAltNames, so every certificate of %s was accepted. "+
			"Now it must have the name of the server.", authority)
		check("The name check is new. The certificate of the server must have a name of: %s.", strings.Join(r.hosts, ", "))
	case unnamed:
		check("The name of the certificate is still not checked. Set redis-tls/subject-alt-names to a name that it has.")
	}
	if tls.CaCertificates == "" && tls.CredentialName == "" && !tls.GetInsecureSkipVerify().GetValue() {
		check("The rule names no CA, and Istio before 1.24 then verifies nothing. " +
			"If the CA of the server is private, set redis-tls/ca-secret.")
	}
	if tls.Sni == "" && len(r.hosts) > 0 && len(r.addresses) == 0 {
		safer("SNI: the rule sends no server name. Now the handshake has %s.", r.hosts[0])
	}
	if tls.CredentialName != "" && r.rule.typed.Spec.WorkloadSelector == nil {
		safer("CA: a sidecar ignores credentialName of a rule without workloadSelector. Now it verifies the server.")
	}
}
