package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// served makes of a pod that asks what an installation without fault makes of it.
func served(_ context.Context, pod *corev1.Pod) (*corev1.Pod, []string, error) {
	switch {
	case pod.Annotations["redis-tls/inject"] == "false":
		return pod, nil, nil
	case pod.Annotations["redis-tls/port"] == "none":
		return nil, nil, errors.New(`admission webhook denied the request: redis-tls/port: "none" is no port`)
	}
	pod = pod.DeepCopy()
	pod.Labels["redis-tls/injected"] = "true"
	pod.Annotations["redis-tls/status"] = `{"version":"v1","request":{"redis-tls/host":"redis.example.com"}}`
	pod.Annotations["redis-tls/vips"] = "redis.example.com=251.0.0.1"
	pod.Spec.HostAliases = []corev1.HostAlias{{IP: "251.0.0.1", Hostnames: []string{"redis.example.com"}}}
	pod.Spec.InitContainers = []corev1.Container{{Name: "istio-proxy"}}
	return pod, nil, nil
}

// but changes what is made of the pod that asks.
func but(change func(*corev1.Pod)) create {
	return func(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, []string, error) {
		pod, warnings, err := served(ctx, pod)
		if err == nil && pod.Annotations["redis-tls/inject"] == "" {
			change(pod)
			warnings = []string{"something is amiss"}
		}
		return pod, warnings, err
	}
}

// warned admits what is wrong, with words about it.
func warned(words ...string) create {
	return func(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, []string, error) {
		if pod.Annotations["redis-tls/port"] == "none" {
			return pod, words, nil
		}
		return served(ctx, pod)
	}
}

func TestHelmTestTellsWhatIsAmiss(t *testing.T) {
	for name, test := range map[string]struct {
		create create
		warns  bool
		want   []string // of the output; none: all is well
	}{
		"all is well":                    {create: served},
		"all is well where policy warns": {create: warned(`redis-tls/port: "none" is no port`), warns: true},
		"no webhook": {
			create: func(context.Context, *corev1.Pod) (*corev1.Pod, []string, error) {
				return nil, nil, errors.New(`failed calling webhook "annotated.pods.redis-tls.internal": connection refused`)
			},
			want: []string{`FAILED  a pod that asks gets its TLS: failed calling webhook "annotated`, `FAILED  a pod that asks for what cannot be is told so: what was said does not name redis-tls/port and none: "failed calling`,
				"FAILED  a pod that opts out is left alone: failed calling"}},
		"a webhook that does nothing": {
			create: but(func(pod *corev1.Pod) { delete(pod.Labels, "redis-tls/injected") }),
			want:   []string{"it was admitted without the label redis-tls/injected, so redis-tls did nothing for it\n        warning: something is amiss"}},
		"a status of nobody": {
			create: but(func(pod *corev1.Pod) { pod.Annotations["redis-tls/status"] = "?" }), want: []string{"annotation redis-tls/status: "}},
		"VIPs that nobody can read": {
			create: but(func(pod *corev1.Pod) { pod.Annotations["redis-tls/vips"] = "redis.example.com" }), want: []string{`annotation redis-tls/vips: parsing redis-tls/vips: "redis.example.com" must be host=address`}},
		"an alias that was lost": {
			create: but(func(pod *corev1.Pod) { pod.Spec.HostAliases[0].Hostnames = []string{"other"} }), want: []string{"spec.hostAliases does not give redis.example.com the address 251.0.0.1"}},
		"no sidecar": {
			create: but(func(pod *corev1.Pod) { pod.Spec.InitContainers = nil }), want: []string{"it has no container istio-proxy: Istio's injector gave it no sidecar"}},
		"what is wrong passes": {
			create: warned("nothing of it"), want: []string{`it was admitted, with the warnings ["nothing of it"]`}},
		"what is wrong passes without a word": {
			create: warned(), warns: true, want: []string{"what was said does not name redis-tls/port and none"}},
		"what is wrong is refused where policy warns": {
			create: served, warns: true, want: []string{"it was refused, though policy.mode is warn: admission webhook denied"}},
		"a pod that opts out is changed": {
			create: func(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, []string, error) {
				if pod.Annotations["redis-tls/inject"] == "false" {
					pod = pod.DeepCopy()
					pod.Labels["redis-tls/injected"] = "true"
					return pod, nil, nil
				}
				return served(ctx, pod)
			},
			want: []string{"FAILED  a pod that opts out is left alone: redis-tls wrote to it: labels map[a:b redis-tls/injected:true]"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			trial := admissionTest{namespace: "default", labels: map[string]string{"a": "b"}, warns: test.warns, create: test.create,
				annotations: map[string]string{"redis-tls/host": "redis.example.com"}}
			err := trial.run(t.Context(), &out)
			if (err == nil) != (test.want == nil) {
				t.Errorf("got error %v after\n%s", err, &out)
			}
			if n := strings.Count(out.String(), "\nok  ") + strings.Count(out.String(), "FAILED") + 1; !strings.HasPrefix(out.String(), "FAILED") && n != 3 {
				t.Errorf("%d outcomes in\n%s", n, &out)
			}
			for _, want := range test.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in\n%s", want, &out)
				}
			}
		})
	}
}

func TestPairs(t *testing.T) {
	got, err := pairs([]string{"redis-tls/port=6379,26379", "a=b=c", "empty="})
	if err != nil || len(got) != 3 || got["redis-tls/port"] != "6379,26379" || got["a"] != "b=c" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, wrong := range []string{"key", "=value"} {
		if _, err := pairs([]string{wrong}); err == nil || !strings.Contains(err.Error(), "is not key=value") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}
