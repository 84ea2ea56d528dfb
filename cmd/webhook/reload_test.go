package main

import (
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/metrics/metricstest"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// policies records the hosts of the policies that a part of the process was given.
type policies [][]string

func (p *policies) SetPolicy(policy config.Policy) { *p = append(*p, policy.AllowedHosts) }

func configMap(text string) *corev1.ConfigMap {
	return &corev1.ConfigMap{Data: map[string]string{"config.yaml": text}}
}

func TestThePolicyOfTheConfigMapIsApplied(t *testing.T) {
	const narrow = "policy: {allowedHosts: [a.example.com]}"
	messages := catalog.Open(t)
	for _, test := range []struct {
		name    string
		events  []any // ConfigMaps; the last state of a deletion is wrapped
		want    policies
		current float64
	}{
		{
			name:    "the configuration of the start",
			events:  []any{configMap("policy: {mode: enforce}")},
			current: 1,
		},
		{
			name:    "a narrower policy, read twice",
			events:  []any{configMap(narrow), configMap(narrow)},
			want:    policies{{"a.example.com"}},
			current: 1,
		},
		{
			name:    "other settings too, which need new pods",
			events:  []any{configMap(narrow + "\nvip: {cidr: 252.0.0.0/8}")},
			current: 1,
		},
		{
			name:    "only other settings, and back with a policy",
			events:  []any{configMap("vip: {cidr: 252.0.0.0/8}"), configMap(narrow)},
			want:    policies{{"a.example.com"}},
			current: 1,
		},
		{
			name:    "a wrong value after a valid one",
			events:  []any{configMap(narrow), configMap("policy: {mode: audit, allowedHosts: [b.example.com]}")},
			want:    policies{{"a.example.com"}},
			current: 0,
		},
		{
			name:    "a wrong value outside of the policy",
			events:  []any{configMap("policy: {allowedHosts: [b.example.com]}\nclusterDomain: _")},
			current: 0,
		},
		{
			name:    "an empty ConfigMap",
			events:  []any{configMap(narrow), &corev1.ConfigMap{}},
			want:    policies{{"a.example.com"}},
			current: 0,
		},
		{
			name:    "a deleted ConfigMap",
			events:  []any{configMap(narrow), toolscache.DeletedFinalStateUnknown{}},
			want:    policies{{"a.example.com"}},
			current: 0,
		},
		{
			name:    "a valid one after a wrong one",
			events:  []any{configMap("policy: 1"), configMap(narrow)},
			want:    policies{{"a.example.com"}},
			current: 1,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log, errs []string
			logger := funcr.New(func(_, line string) { log = append(log, line) }, funcr.Options{})
			var got policies
			reload := (&flags{config: "/etc/redis-tls-webhook/config.yaml"}).newReloader(config.Default(), logger, &got)
			informers := &informertest.FakeInformers{}
			informer, err := informers.FakeInformerFor(t.Context(), &corev1.ConfigMap{})
			if err != nil {
				t.Fatal(err)
			}
			if err := reload.watch(informer); err != nil {
				t.Fatal(err)
			}
			for n, event := range test.events {
				object, ok := event.(*corev1.ConfigMap)
				switch {
				case !ok:
					informer.Delete(&corev1.ConfigMap{})
				case n == 0:
					informer.Add(object)
				default:
					informer.Update(&corev1.ConfigMap{}, object)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("policies (-want +got):\n%s", diff)
			}
			for _, line := range log {
				if strings.Contains(line, "stays in force") {
					errs = append(errs, line)
				}
			}
			messages.Add(test.name, errs...)
			if current := metricstest.Gather(t, registryOf(t, reload))["redis_tls_policy_current"]; current != test.current {
				t.Errorf("redis_tls_policy_current %v, want %v", current, test.current)
			}
		})
	}
}
