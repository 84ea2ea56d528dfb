package annotation

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// discoveredCAKeys are the keys of CA bundles that Istio's secret discovery reads (pilot/pkg/credentials/kube), the
// first that an object has. For a client certificate it prefers the Secret with the suffix in its name to the Secret
// itself.
var discoveredCAKeys = []string{"cacert", defaultCAKey}

const discoveredCASuffix = "-cacert"

func parseDelivery(d *draft, _ *field.Path, value string) field.ErrorList {
	d.sds = value == "sds"
	return nil
}

// checkDelivery checks that Istio's secret discovery can deliver the objects with delivery "sds".
func (req *request) checkDelivery() field.ErrorList {
	t := &req.TLS
	if !t.SDS {
		return nil
	}
	p := problems{instance: req.instance}
	alternative := ", or set " + p.key("delivery") + " to \"mount\""
	if !t.OwnCA() && t.ClientSecret == "" {
		p.invalid("delivery", "requires a CA or a client certificate; name one in %s, %s or %s%s",
			p.key("ca-secret"), p.key("ca-configmap"), p.key("client-secret"), alternative)
		return p.errs
	}
	if t.OwnCA() && !slices.Contains(discoveredCAKeys, t.CAKey) {
		p.invalid("ca-key", "must be %s with delivery \"sds\"; rename the key in the object%s",
			strings.Join(discoveredCAKeys, " or "), alternative)
	}
	if t.ClientSecret == "" {
		return p.errs
	}
	if strings.HasSuffix(t.ClientSecret, discoveredCASuffix) {
		p.invalid("client-secret", "must not name Secret %s with delivery \"sds\", which expects only a CA under %s; "+
			"rename it%s", t.ClientSecret, discoveredCASuffix, alternative)
	}
	caSecret := t.ClientSecret + discoveredCASuffix
	if t.CAConfigMap != "" || t.OwnCA() && t.CASecret != t.ClientSecret && t.CASecret != caSecret {
		name := "ca-secret"
		if t.CAConfigMap != "" {
			name = "ca-configmap"
		}
		p.invalid(name, "cannot be used with a client certificate and delivery \"sds\"; put the CA into Secret %s or %s%s",
			t.ClientSecret, caSecret, alternative)
	}
	return p.errs
}
