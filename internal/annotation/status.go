package annotation

import (
	"fmt"
	"strings"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// ResolveStatus resolves the request of a live pod by the current configuration for its namespace. The error says why
// the request would be refused now, and names the keys.
func ResolveStatus(status origination.Status, namespace, serviceAccount string, cfg config.Config,
	services Services) (Result, error) {
	res := Resolve(Input{
		Namespace: namespace, Annotations: status.Request, ServiceAccount: serviceAccount,
		SecretOfCertificate: func(certificate string) string { return status.Secrets[certificate] },
	}, cfg, services)
	errs := res.Errors
	for _, problem := range res.NamespaceProblems {
		errs = append(errs, problem.Err)
	}
	switch {
	case len(errs) > 0:
		return Result{}, errs.ToAggregate()
	case res.Skip != "":
		return Result{}, fmt.Errorf("%s: must contain a request", origination.AnnotationStatus)
	}
	return res, nil
}

// record returns what to record of what took effect: every key with a value of the instances that were read, and
// those of the pod as a whole.
func statusOf(requests []*request, pod map[string]setting) origination.Status {
	status := origination.Status{Version: origination.StatusVersion, Request: map[string]string{}}
	add := func(key, value string) {
		if value = strings.TrimSpace(value); value != "" {
			status.Request[key] = value
		}
	}
	for _, req := range requests {
		for _, set := range req.instance.settings {
			add(origination.KeyOf(req.instance.name, set.name), set.value)
		}
		if req.TLS.Certificate != "" {
			if status.Secrets == nil {
				status.Secrets = map[string]string{}
			}
			status.Secrets[req.TLS.Certificate] = req.TLS.ClientSecret
		}
	}
	for name, set := range pod {
		add(origination.Prefix+name, set.value)
	}
	return status
}
