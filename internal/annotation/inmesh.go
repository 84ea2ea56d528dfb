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
	fix := fmt.Sprintf("name a Service of the mesh, as in \"redis\", \"redis.data\", \"redis.data.svc\" or \"redis.data.svc.%s\"", r.cfg.ClusterDomain)
	name, problem := origination.NormalName(text, fix)
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
		return "", "must be the name of a Service in mode istio-mutual; " + fix
	case !qualified:
		namespace = r.namespace
	}
	host = service + "." + namespace + ".svc." + r.cfg.ClusterDomain
	if r.services == nil {
		return host, ""
	}
	switch found, exists := r.services.Service(namespace, service); {
	case !exists:
		return "", fmt.Sprintf("must be an existing Service, and %s/%s does not exist; correct the name, or create the Service first", namespace, service)
	case found.ExternalName != "":
		return "", fmt.Sprintf("must be a Service of pods, and %s/%s is an alias of %s; name the Service that selects the Redis pods",
			namespace, service, found.ExternalName)
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

// unusedInMesh are the keys that mean nothing in mode istio-mutual, by the reason.
var unusedInMesh = []struct {
	reason string
	keys   []string
}{
	{"the Service defines its endpoints and the protocol of its ports", []string{"target-port", "passthrough-ports", "addresses", "protocol"}},
	{"both sidecars use the certificates of the mesh", []string{
		"ca-secret", "ca-configmap", "ca-key", "client-secret", "issuer", "issuer-kind", "issuer-group", "certificate", "delivery", "insecure-skip-verify"}},
	{"the mesh knows the identity of the server's sidecar", []string{"sni", "subject-alt-names"}},
}

// checkInMesh refuses what means nothing beside mode istio-mutual.
func (req *request) checkInMesh() field.ErrorList {
	var errs field.ErrorList
	if req.HostSynthesised {
		errs = append(errs, field.Required(req.instance.at("host"), "mode istio-mutual requires a Service of the mesh; write its name, as in \"redis.data\""))
	}
	for _, of := range unusedInMesh {
		for _, key := range of.keys {
			if value := req.instance.value(key); value != "" {
				errs = append(errs, field.Invalid(req.instance.at(key), origination.Shorten(value), "cannot be used with mode istio-mutual, because "+of.reason+"; remove it"))
			}
		}
	}
	return errs
}
