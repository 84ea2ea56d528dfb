package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/test/catalog"
)

// served admits pods as an installation without faults does.
func served(_ context.Context, pod *corev1.Pod) (*corev1.Pod, []string, error) {
	switch {
	case pod.Annotations["redis-tls/inject"] == "false":
		return pod, nil, nil
	case pod.Annotations["redis-tls/port"] == "none":
		return nil, nil, errors.New(`admission webhook denied the request: redis-tls/port: "none": must be a port`)
	}
	pod = pod.DeepCopy()
	pod.Labels["redis-tls/injected"] = "true"
	pod.Annotations["redis-tls/status"] = `{"version":"v1","request":{"redis-tls/host":"redis.example.com"}}`
	pod.Annotations["redis-tls/vips"] = "redis.example.com=251.0.0.1"
	pod.Spec.HostAliases = []corev1.HostAlias{{IP: "251.0.0.1", Hostnames: []string{"redis.example.com"}}}
	pod.Spec.InitContainers = []corev1.Container{{Name: "istio-proxy"}}
	return pod, nil, nil
}

// servedExcept admits pods as served does, and then changes the pod that requests TLS.
func servedExcept(change func(*corev1.Pod)) create {
	return func(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, []string, error) {
		pod, warnings, err := served(ctx, pod)
		if err == nil && pod.Annotations["redis-tls/inject"] == "" {
			change(pod)
			warnings = []string{"a warning of the webhook"}
		}
		return pod, warnings, err
	}
}

// warned admits the wrong request with the warnings.
func warned(warnings ...string) create {
	return func(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, []string, error) {
		if pod.Annotations["redis-tls/port"] == "none" {
			return pod, warnings, nil
		}
		return served(ctx, pod)
	}
}

func TestHelmTestReportsFaults(t *testing.T) {
	c := catalog.Open(t)
	for name, test := range map[string]struct {
		create create
		warns  bool
		failed []string // the checks that fail, each with a part of its output
	}{
		"no fault":                       {create: served},
		"no fault with policy.mode warn": {create: warned(`redis-tls/port: "none": must be a port`), warns: true},
		"no webhook": {
			create: func(context.Context, *corev1.Pod) (*corev1.Pod, []string, error) {
				return nil, nil, errors.New(`failed calling webhook "annotated.pods.redis-tls.internal": connection refused`)
			},
			failed: []string{"failed calling", "redis-tls/port", "failed calling"},
		},
		"a webhook without effect": {
			create: servedExcept(func(pod *corev1.Pod) { delete(pod.Labels, "redis-tls/injected") }),
			failed: []string{"redis-tls/injected"},
		},
		"a broken status": {
			create: servedExcept(func(pod *corev1.Pod) { pod.Annotations["redis-tls/status"] = "?" }),
			failed: []string{"redis-tls/status"},
		},
		"broken VIPs": {
			create: servedExcept(func(pod *corev1.Pod) { pod.Annotations["redis-tls/vips"] = "redis.example.com" }),
			failed: []string{"redis-tls/vips"},
		},
		"a lost host alias": {
			create: servedExcept(func(pod *corev1.Pod) { pod.Spec.HostAliases[0].Hostnames = []string{"other"} }),
			failed: []string{"spec.hostAliases"},
		},
		"no sidecar": {
			create: servedExcept(func(pod *corev1.Pod) { pod.Spec.InitContainers = nil }),
			failed: []string{"istio-proxy"},
		},
		"a wrong request that is admitted": {
			create: warned("another warning"),
			failed: []string{"another warning"},
		},
		"a wrong request without a warning": {
			create: warned(),
			warns:  true,
			failed: []string{"redis-tls/port"},
		},
		"a wrong request that is refused with policy.mode warn": {
			create: served,
			warns:  true,
			failed: []string{"policy.mode"},
		},
		"a changed pod that opts out": {
			create: func(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, []string, error) {
				if pod.Annotations["redis-tls/inject"] == "false" {
					pod = pod.DeepCopy()
					pod.Labels["redis-tls/injected"] = "true"
					return pod, nil, nil
				}
				return served(ctx, pod)
			},
			failed: []string{"redis-tls/injected"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			trial := admissionTest{
				namespace:   "default",
				labels:      map[string]string{"a": "b"},
				warns:       test.warns,
				create:      test.create,
				annotations: map[string]string{"redis-tls/host": "redis.example.com"},
			}
			err := trial.run(t.Context(), &out)
			if (err == nil) != (test.failed == nil) {
				t.Errorf("got error %v after\n%s", err, &out)
			}
			var failed []string
			passed := 0
			for line := range strings.Lines(out.String()) {
				c.Add(name, strings.TrimRight(line, "\n"))
				switch {
				case strings.HasPrefix(line, "FAILED  "):
					failed = append(failed, line)
				case strings.HasPrefix(line, "ok      "):
					passed++
				}
			}
			if len(failed) != len(test.failed) || passed+len(failed) != 3 {
				t.Fatalf("%d failed and %d passed, want %d of 3 to fail:\n%s", len(failed), passed, len(test.failed), &out)
			}
			for i, want := range test.failed {
				if !strings.Contains(failed[i], want) {
					t.Errorf("got %q, want %q in it", failed[i], want)
				}
			}
			if err != nil {
				c.Add(name, err.Error())
			}
		})
	}
}

func TestPairs(t *testing.T) {
	c := catalog.Open(t)
	got, err := pairs([]string{"redis-tls/port=6379,26379", "a=b=c", "empty="})
	if err != nil || len(got) != 3 || got["redis-tls/port"] != "6379,26379" || got["a"] != "b=c" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, wrong := range []string{"key", "=value"} {
		_, err := pairs([]string{wrong})
		if err == nil || !strings.Contains(err.Error(), `"`+wrong+`"`) {
			t.Errorf("%q: %v", wrong, err)
			continue
		}
		c.Add(wrong, err.Error())
	}
}
