package config

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// policyPath is the path of the cluster's policy in the Helm values.
const policyPath = "policy"

// AllowsHost reports whether the list has the host, or a "*.example.com" that it is below.
func (l Limits) AllowsHost(host string) bool {
	return len(l.AllowedHosts) == 0 || slices.ContainsFunc(l.AllowedHosts, func(allowed string) bool {
		allowed = strings.TrimSuffix(strings.ToLower(allowed), ".")
		if domain, wildcard := strings.CutPrefix(allowed, "*"); wildcard {
			return strings.HasSuffix(host, domain)
		}
		return host == allowed
	})
}

// AllowsRange reports whether one allowed range contains the whole range.
func (l Limits) AllowsRange(a netip.Prefix) bool {
	return len(l.AllowedCIDRs) == 0 || slices.ContainsFunc(l.AllowedCIDRs, func(allowed netip.Prefix) bool {
		return allowed.Bits() <= a.Bits() && allowed.Contains(a.Addr())
	})
}

// AllowsPort reports whether an allowed number or range contains the port.
func (l Limits) AllowsPort(n int32) bool {
	return len(l.AllowedPorts) == 0 || slices.ContainsFunc(l.AllowedPorts, func(allowed string) bool {
		from, to, problem := origination.NumberRange(allowed)
		return problem == "" && from <= n && n <= to
	})
}

// AllowsIssuer reports whether the list has the issuer.
func (l Limits) AllowsIssuer(issuer string) bool {
	return len(l.AllowedIssuers) == 0 || slices.Contains(l.AllowedIssuers, issuer)
}

// For returns the configuration with the entries of policy.namespaces that select the namespace. As in the API server,
// every namespace has the label kubernetes.io/metadata.name.
func (c Config) For(namespace string, namespaceLabels map[string]string) Config {
	c.Policy.Applied = nil
	all := namespaceSet{name: namespace, labels: namespaceLabels}
	for i := range c.Policy.Namespaces {
		entry := &c.Policy.Namespaces[i]
		selector, err := metav1.LabelSelectorAsSelector(&entry.Selector)
		if err != nil || !selector.Matches(all) { // Parse refuses selectors that are not valid
			continue
		}
		c.Policy.Applied = append(c.Policy.Applied, Applied{
			Path: fmt.Sprintf("%s.namespaces[%d]", policyPath, i), NamespacePolicy: *entry,
		})
	}
	return c
}

// namespaceSet are the labels of a namespace.
type namespaceSet struct {
	name   string
	labels labels.Set
}

// Has reports whether the namespace has the label.
func (s namespaceSet) Has(key string) bool {
	return key == corev1.LabelMetadataName || s.labels.Has(key)
}

// Get returns the value of a label.
func (s namespaceSet) Get(key string) string {
	if key == corev1.LabelMetadataName {
		return s.name
	}
	return s.labels.Get(key)
}

// Lookup returns the value of a label, and whether the namespace has it.
func (s namespaceSet) Lookup(key string) (string, bool) { return s.Get(key), s.Has(key) }

// All returns the limits that apply, with their paths: those of the cluster, then those of the entries.
func (p Policy) All() iter.Seq2[string, Limits] {
	return func(yield func(string, Limits) bool) {
		if !yield(policyPath, p.Limits) {
			return
		}
		for i := range p.Applied {
			if !yield(p.Applied[i].Path, p.Applied[i].Limits) {
				return
			}
		}
	}
}

// Warns reports whether a pod with problems is admitted, and the path of the mode that says so. The cluster's mode
// applies to every namespace.
func (p Policy) Warns() (path string, warns bool) {
	if p.Mode == PolicyWarn {
		return policyPath + ".mode", true
	}
	for i := range p.Applied {
		if p.Applied[i].Mode == PolicyWarn {
			return p.Applied[i].Path + ".mode", true
		}
	}
	return "", false
}

// ForbidsInsecure reports whether insecure-skip-verify is forbidden, and the path of the value that says so.
func (p Policy) ForbidsInsecure() (path string, forbidden bool) {
	if !p.AllowInsecure {
		return policyPath + ".allowInsecure", true
	}
	for i := range p.Applied {
		if allow := p.Applied[i].AllowInsecure; allow != nil && !*allow {
			return p.Applied[i].Path + ".allowInsecure", true
		}
	}
	return "", false
}

// MaxKeys returns the lowest of the limits of keys, and its path.
func (p Policy) MaxKeys() (path string, most int) {
	path, most = policyPath, p.MaxKeysPerNamespace
	for i := range p.Applied {
		if n := p.Applied[i].MaxKeysPerNamespace; n > 0 && n < most {
			path, most = p.Applied[i].Path, n
		}
	}
	return path + ".maxKeysPerNamespace", most
}
