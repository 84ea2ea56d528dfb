package annotation

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// What Istio's secret discovery reads (pilot/pkg/credentials/kube): the bundle under the first of these
// keys that an object has, and of a Secret the one of that name with the suffix before the Secret itself.
var discoveredCAKeys = []string{"cacert", defaultCAKey}

const discoveredCASuffix = "-cacert"

func parseDelivery(d *draft, _ *field.Path, value string) field.ErrorList {
	d.sds = value == "sds"
	return nil
}

// deliveryProblems says what Istio's secret discovery cannot deliver with delivery "sds". The key function returns the
// full annotation key of a name.
func deliveryProblems(t *origination.TLS, key func(name string) string) []keyProblem {
	otherwise := ", or set " + key("delivery") + " to \"mount\""
	if !t.SDS {
		return nil
	}
	if !t.OwnCA() && t.ClientSecret == "" {
		return []keyProblem{{"delivery", "requires a CA or a client certificate; name one in " + key("ca-secret") + ", " + key("ca-configmap") + " or " + key("client-secret") + otherwise}}
	}
	var all []keyProblem
	if t.OwnCA() && !slices.Contains(discoveredCAKeys, t.CAKey) {
		all = append(all, keyProblem{"ca-key", "must be " + strings.Join(discoveredCAKeys, " or ") + " with delivery \"sds\"; rename the key in the object" + otherwise})
	}
	if t.ClientSecret == "" {
		return all
	}
	if strings.HasSuffix(t.ClientSecret, discoveredCASuffix) {
		all = append(all, keyProblem{"client-secret", "must not name Secret " + t.ClientSecret + " with delivery \"sds\", which expects only a CA under " + discoveredCASuffix + "; rename it" + otherwise})
	}
	if caSecret := t.ClientSecret + discoveredCASuffix; t.CAConfigMap != "" || t.OwnCA() && t.CASecret != t.ClientSecret && t.CASecret != caSecret {
		name := "ca-secret"
		if t.CAConfigMap != "" {
			name = "ca-configmap"
		}
		all = append(all, keyProblem{name, "cannot be used with a client certificate and delivery \"sds\"; put the CA into Secret " + t.ClientSecret + " or " + caSecret + otherwise})
	}
	return all
}
