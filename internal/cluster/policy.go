package cluster

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/config"
)

// SetPolicy replaces the policy by which the requests of live pods are resolved. Every namespace is reconciled.
func (v *View) SetPolicy(policy config.Policy) {
	v.policy.Store(&policy)
	v.generation.Add(1) // after the policy: a result of this generation is one by the new policy
	v.allChanged()
}

// Policy returns the policy with the entries that apply to a namespace.
func (v *View) Policy(namespace string) config.Policy { return v.configOf(namespace).Policy }

// configOf returns the configuration for a namespace.
func (v *View) configOf(namespace string) config.Config {
	labels, _, _ := v.Namespace(namespace)
	return v.currentConfig().For(namespace, labels)
}

func (v *View) currentConfig() config.Config {
	cfg := v.cfg
	if policy := v.policy.Load(); policy != nil {
		cfg.Policy = *policy
	}
	return cfg
}

// policyChanged resolves the requests of a namespace again if other entries of the policy apply to it.
func (v *View) policyChanged(old, namespace *corev1.Namespace) {
	if namespace == nil {
		return
	}
	var oldLabels map[string]string
	if old != nil {
		oldLabels = old.Labels
	}
	cfg, samePath := v.currentConfig(), func(a, b config.Applied) bool { return a.Path == b.Path }
	was, is := cfg.For(namespace.Name, oldLabels), cfg.For(namespace.Name, namespace.Labels)
	if slices.EqualFunc(was.Policy.Applied, is.Policy.Applied, samePath) {
		return
	}
	v.generation.Add(1)
	if v.HasPods(namespace.Name) || v.ownsObjects(namespace.Name) {
		v.notify(namespace.Name, Background)
	}
}
