package annotation

import (
	"fmt"
	"net/netip"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// serviceHost returns the full name of the Service that a pod of the namespace means by the text:
//
//	redis                            of the own namespace
//	redis.data                       of namespace data
//	redis.data.svc
//	redis.data.svc.cluster.local     by Config.ClusterDomain
//
// problem says what is wrong, "" when nothing is: it is no such name, or there is no such Service of pods.
func (r rules) serviceHost(text string) (host, problem string) {
	right := fmt.Sprintf("mode istio-mutual leads to a Service of the mesh; write it as in \"redis\", \"redis.data\", \"redis.data.svc\" or \"redis.data.svc.%s\"", r.cfg.ClusterDomain)
	name, problem := origination.NormalName(text, right)
	if problem != "" {
		return "", problem
	}
	name, full := strings.CutSuffix(name, ".svc."+r.cfg.ClusterDomain)
	if !full {
		name, full = strings.CutSuffix(name, ".svc")
	}
	service, namespace, qualified := strings.Cut(name, ".")
	switch {
	case strings.Contains(namespace, "."), full && !qualified:
		return "", "is not the name of a Service; " + right
	case !qualified:
		namespace = r.namespace
	}
	host = service + "." + namespace + ".svc." + r.cfg.ClusterDomain
	if r.services == nil {
		return host, ""
	}
	switch found, exists := r.services.Service(namespace, service); {
	case !exists:
		return "", fmt.Sprintf("means the Service %s/%s, which does not exist; correct the name, or create the Service first", namespace, service)
	case found.ExternalName != "":
		return "", fmt.Sprintf("means the Service %s/%s, which is an alias of %s; name the Service that the pods of Redis are behind", namespace, service, found.ExternalName)
	}
	return host, ""
}

// clusterIPs are the addresses of the origination's Service.
func (r rules) clusterIPs(o *origination.Origination) []netip.Addr {
	if !o.InMesh() || r.services == nil {
		return nil
	}
	service, _ := r.services.Service(o.Service())
	return service.ClusterIPs
}

// pointlessInMesh are the keys that mean nothing in mode istio-mutual, by the reason.
var pointlessInMesh = []struct {
	reason string
	keys   []string
}{
	{"the Service says where it leads to, and its port which protocol it has", []string{"target-port", "passthrough-ports", "addresses", "protocol"}},
	{"the sidecars of both sides show and check the mesh's own certificates", []string{
		"ca-secret", "ca-configmap", "ca-key", "client-secret", "issuer", "issuer-kind", "issuer-group", "certificate", "delivery", "insecure-skip-verify"}},
	{"the mesh knows the name in the certificate of the server's sidecar", []string{"sni", "subject-alt-names"}},
}

// checkInMesh refuses what means nothing beside mode istio-mutual.
func (w *wish) checkInMesh() field.ErrorList {
	var errs field.ErrorList
	if w.HostSynthesised {
		errs = append(errs, field.Required(w.instance.at("host"), "mode istio-mutual leads to a Service of the mesh; give its name, as in \"redis.data\""))
	}
	for _, of := range pointlessInMesh {
		for _, key := range of.keys {
			if value := w.instance.value(key); value != "" {
				errs = append(errs, field.Invalid(w.instance.at(key), origination.Shorten(value), "means nothing in mode istio-mutual: "+of.reason+"; remove it"))
			}
		}
	}
	return errs
}
