package annotation

import (
	"fmt"
	"strings"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// serviceName is a Service of the cluster, or a pod of one.
type serviceName struct {
	pod             string // the pod's hostname; empty for the Service itself
	name, namespace string
}

// qualified is the name with its namespace, by which pods of every namespace can dial it: redis.data,
// redis-0.redis.data.
func (s serviceName) qualified() string {
	return strings.TrimPrefix(s.pod+"."+s.name+"."+s.namespace, ".")
}

// full is the name that DNS resolves without a search domain.
func (r rules) full(s serviceName) string { return s.qualified() + ".svc." + r.cfg.ClusterDomain }

// serverName is a name that the app dials, with the names that the server's certificate may have for it.
type serverName struct {
	origination.Name
	certified []string
}

// serverName returns all names by which a pod of the namespace can dial the Service. A certificate may have those that
// mean the same in every namespace.
func (r rules) serverName(s serviceName) serverName {
	qualified := s.qualified()
	n := serverName{Name: origination.Name{Host: r.full(s), Aliases: []string{qualified + ".svc", qualified}}}
	n.certified = n.Dialled()
	if s.namespace == r.namespace {
		n.Aliases = append(n.Aliases, strings.TrimSuffix(qualified, "."+s.namespace))
	}
	return n
}

// serviceForms returns the Services that a resolver may find under a normal name in a pod of the namespace, by the
// search domains <namespace>.svc.<domain>, svc.<domain> and <domain>. If only is true, the name can be nothing else:
//
//	redis                                              only a Service of the pod's namespace
//	redis.data.svc, redis.data.svc.<domain>            only the Service of namespace data
//	redis-0.redis.data.svc, the same with .<domain>    only a pod of that Service
//	redis.data                                         a Service of namespace data, or a pod of Service data here
//	redis-0.redis.data                                 a pod of that Service
func (r rules) serviceForms(name string) (forms []serviceName, only bool) {
	base, only := strings.CutSuffix(name, ".svc."+r.cfg.ClusterDomain)
	if !only {
		base, only = strings.CutSuffix(name, ".svc")
	}
	switch labels := strings.Split(base, "."); {
	case len(labels) == 1 && !only:
		return []serviceName{{name: base, namespace: r.namespace}}, true
	case len(labels) == 2 && only:
		return []serviceName{{name: labels[0], namespace: labels[1]}}, true
	case len(labels) == 2:
		return []serviceName{
			{name: labels[0], namespace: labels[1]},
			{pod: labels[0], name: labels[1], namespace: r.namespace},
		}, false
	case len(labels) == 3:
		return []serviceName{{pod: labels[0], name: labels[1], namespace: labels[2]}}, only
	}
	return nil, false
}

// findService returns the Service that a normal name stands for, if it stands for one. A Service that cannot be looked
// up counts as existing only if the name can be nothing else.
func (r rules) findService(name string) (service serviceName, found bool, problem string) {
	forms, only := r.serviceForms(name)
	var existing []serviceName
	for _, form := range forms {
		exists := only && (r.services == nil || r.partial)
		if !exists && r.services != nil {
			_, exists = r.services.Service(form.namespace, form.name)
		}
		if exists {
			existing = append(existing, form)
		}
	}
	switch {
	case len(existing) == 0 && only:
		return serviceName{}, false, serviceMissing(forms[0])
	case len(existing) == 0:
		return serviceName{}, false, ""
	case len(existing) > 1:
		return serviceName{}, false, fmt.Sprintf("must stand for one Service, got %s/%s and a pod of %s/%s; "+
			"write and dial %q or %q", existing[0].namespace, existing[0].name, existing[1].namespace, existing[1].name,
			existing[0].qualified()+".svc", existing[1].qualified()+".svc")
	case existing[0].namespace == "default" && existing[0].name == "kubernetes":
		return serviceName{}, false, "must not be the API server of the cluster; name a Redis"
	}
	return existing[0], true, r.aliasProblem(existing[0])
}

// serviceMissing says that a Service does not exist.
func serviceMissing(s serviceName) string {
	return fmt.Sprintf("must be an existing Service, and %s/%s does not exist; correct the name, or create the "+
		"Service first", s.namespace, s.name)
}

// aliasProblem refuses a Service that is an alias of another name, or returns "".
func (r rules) aliasProblem(s serviceName) string {
	if r.services == nil {
		return ""
	}
	service, _ := r.services.Service(s.namespace, s.name)
	if service.ExternalName == "" {
		return ""
	}
	return fmt.Sprintf("must be a Service of pods, and %s/%s is an alias of %s; name the Service that selects the Redis "+
		"pods", s.namespace, s.name, service.ExternalName)
}
