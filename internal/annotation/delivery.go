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

// undeliverable is what Istio's secret discovery cannot deliver, where it is asked to.
func undeliverable(t *origination.TLS) []denial {
	const otherwise = ", or leave delivery at \"mount\""
	if !t.SDS {
		return nil
	}
	if !t.OwnCA() && t.ClientSecret == "" {
		return []denial{{"delivery", "has nothing to deliver: neither a CA nor a client certificate is given, and the system roots are in the proxy's image; name the CA" + otherwise}}
	}
	var all []denial
	if t.OwnCA() && !slices.Contains(discoveredCAKeys, t.CAKey) {
		all = append(all, denial{"ca-key", "is no key that Istio's secret discovery reads, which are " + strings.Join(discoveredCAKeys, " and ") + "; rename it in the object" + otherwise})
	}
	if t.ClientSecret == "" {
		return all
	}
	if strings.HasSuffix(t.ClientSecret, discoveredCASuffix) {
		all = append(all, denial{"client-secret", "has a name in " + discoveredCASuffix + ", under which Istio's secret discovery delivers a CA alone; rename it" + otherwise})
	}
	if beside := t.ClientSecret + discoveredCASuffix; t.CAConfigMap != "" || t.OwnCA() && t.CASecret != t.ClientSecret && t.CASecret != beside {
		key := "ca-secret"
		if t.CAConfigMap != "" {
			key = "ca-configmap"
		}
		all = append(all, denial{key, "is not where Istio's secret discovery looks for the CA beside a client certificate; put the bundle into the Secret " + t.ClientSecret + " itself, or into one named " + beside + otherwise})
	}
	return all
}
