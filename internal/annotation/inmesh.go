package annotation

import (
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// serviceHost returns the full name of the Service that the text names for a pod of the namespace:
//
//	redis                            of the pod's namespace
//	redis.data                       of namespace data
//	redis.data.svc
//	redis.data.svc.cluster.local     by Config.ClusterDomain
//
// The problem is "" if the text is valid and the Service, if it is looked up, is a Service of pods.
func (r rules) serviceHost(text string) (host, problem string) {
	fix := fmt.Sprintf("name a Service of the mesh, as in \"redis\", \"redis.data\", \"redis.data.svc\" or "+
		"\"redis.data.svc.%s\"", r.cfg.ClusterDomain)
	name, problem := origination.NormalName(text, fix)
	if problem != "" {
		return "", problem
	}
	forms, _ := r.serviceForms(name)
	if len(forms) == 0 || forms[0].pod != "" {
		return "", "must be the name of a Service in mode istio-mutual; " + fix
	}
	service := forms[0]
	if r.services != nil {
		if _, exists := r.services.Service(service.namespace, service.name); !exists && !r.partial {
			return "", serviceMissing(service)
		}
	}
	if problem := r.aliasProblem(service); problem != "" {
		return "", problem
	}
	return r.full(service), ""
}

// clusterIPs are the addresses of the origination's Service.
func (r rules) clusterIPs(o *origination.Origination) []netip.Addr {
	if !o.InMesh() || r.services == nil {
		return nil
	}
	service, _ := r.services.Service(o.Service())
	return service.ClusterIPs
}

// unusedInMesh are the keys that mode istio-mutual does not allow, by the reason.
var unusedInMesh = []struct {
	reason string
	keys   []string
}{
	{
		reason: "the Service defines its endpoints and the protocol of its ports",
		keys:   []string{"nodes", "target-port", "passthrough-ports", "addresses", "protocol"},
	},
	{
		reason: "both sidecars use the certificates of the mesh",
		keys: []string{
			"ca-secret", "ca-configmap", "ca-key", "client-secret", "issuer", "issuer-kind", "issuer-group", "certificate",
			"delivery", "insecure-skip-verify",
		},
	},
	{
		reason: "the mesh knows the identity of the server's sidecar",
		keys:   []string{"sni", "subject-alt-names"},
	},
}

// checkInMesh refuses keys that cannot be used with mode istio-mutual.
func (req *request) checkInMesh() field.ErrorList {
	p := problems{instance: req.instance}
	if req.HostSynthesised {
		p.required("host", "mode istio-mutual requires a Service of the mesh; write its name, as in \"redis.data\"")
	}
	for _, unused := range unusedInMesh {
		for _, name := range unused.keys {
			if req.instance.value(name) != "" {
				p.invalid(name, "cannot be used with mode istio-mutual, because %s; remove it", unused.reason)
			}
		}
	}
	return p.errs
}
