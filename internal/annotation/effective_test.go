package annotation_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
)

func TestEffectiveKeysNameTheirSource(t *testing.T) {
	const enabled = "enabled"
	for _, test := range []struct {
		name      string
		label     string // of the namespace
		pod       map[string]string
		namespace map[string]string
		helm      map[string]string
		want      []string // key=value (source)
	}{
		{
			name: "keys of the pod only",
			pod:  map[string]string{"redis-tls/host": "a.example.com", "redis-tls/status": "{}", "redis-tls/inject": "true"},
			want: []string{"redis-tls/host=a.example.com (pod)"},
		},
		{
			name:      "a namespace that has not opted in",
			pod:       map[string]string{"redis-tls/host": "a.example.com"},
			namespace: map[string]string{"redis-tls/port": "6380"},
			helm:      map[string]string{"redis-tls/ca-secret": "ca"},
			want:      []string{"redis-tls/host=a.example.com (pod)"},
		},
		{
			name:      "the nearest source of each key",
			label:     enabled,
			pod:       map[string]string{"redis-tls/host": " a.example.com "},
			namespace: map[string]string{"redis-tls/host": "b.example.com", "redis-tls/port": "6380"},
			helm:      map[string]string{"redis-tls/port": "6381", "redis-tls/ca-secret": "ca", "redis-tls/sidecar": "restrict"},
			want: []string{
				"redis-tls/host=a.example.com (pod)",
				"redis-tls/port=6380 (namespace)",
				"redis-tls/ca-secret=ca (Helm defaults)",
				"redis-tls/sidecar=restrict (Helm defaults)",
			},
		},
		{
			name:      "an empty value that removes an inherited one",
			label:     enabled,
			pod:       map[string]string{"redis-tls/host": "a.example.com", "redis-tls/port": ""},
			namespace: map[string]string{"redis-tls/port": "6380"},
			want:      []string{"redis-tls/host=a.example.com (pod)", "redis-tls/port= (pod)"},
		},
		{
			name:      "two instances, sorted by name",
			label:     enabled,
			pod:       map[string]string{"sessions.redis-tls/host": "s.example.com"},
			namespace: map[string]string{"redis-tls/host": "a.example.com"},
			want: []string{
				"redis-tls/host=a.example.com (namespace)",
				"sessions.redis-tls/host=s.example.com (pod)",
			},
		},
		{
			name:  "defaults without a host have no effect",
			label: enabled,
			helm:  map[string]string{"redis-tls/ca-secret": "ca"},
		},
		{
			name: "a wrong value",
			pod:  map[string]string{"redis-tls/host": "a.example.com", "redis-tls/port": "x"},
			want: []string{"redis-tls/host=a.example.com (pod)", "redis-tls/port=x (pod)"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := config.Default()
			cfg.Defaults = test.helm
			in := annotation.Input{Namespace: "shop", Annotations: test.pod, NamespaceAnnotations: test.namespace}
			if test.label != "" {
				in.NamespaceLabels = map[string]string{"redis-tls/injection": test.label}
			}
			if diff := cmp.Diff(test.want, texts(annotation.Effective(in, cfg))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDefaultsOfAnOrigination(t *testing.T) {
	for _, test := range []struct {
		name string
		pod  map[string]string
		want []string
	}{
		{
			name: "system roots",
			pod:  map[string]string{"redis-tls/host": "a.example.com", "redis-tls/port": "6379,7000-7003,8000-8001"},
			want: []string{
				"redis-tls/ca-secret=system roots /etc/ssl/certs/ca-certificates.crt (default)",
				"redis-tls/mode=simple (default)",
				"redis-tls/sni=a.example.com (default)",
				"redis-tls/subject-alt-names=a.example.com (default)",
				"redis-tls/protocol=tcp (default)",
			},
		},
		{
			name: "a CA and another target port",
			pod: map[string]string{
				"redis-tls/host": "a.example.com", "redis-tls/ca-configmap": "ca", "redis-tls/target-port": "6380",
				"redis-tls/port": "",
			},
			want: []string{
				"redis-tls/port=6379 (default)",
				"redis-tls/passthrough-ports=6380 (default)",
				"redis-tls/ca-key=ca.crt (default)",
				"redis-tls/mode=simple (default)",
				"redis-tls/sni=a.example.com (default)",
				"redis-tls/subject-alt-names=a.example.com (default)",
				"redis-tls/delivery=mount (default)",
				"redis-tls/protocol=tcp (default)",
			},
		},
		{
			name: "a client certificate with its own CA",
			pod: map[string]string{
				"x.redis-tls/host": "a.example.com", "x.redis-tls/mode": "mutual", "x.redis-tls/client-secret": "client",
				"x.redis-tls/port": "1-3,5", "x.redis-tls/sni": "b.example.com",
			},
			want: []string{
				"x.redis-tls/ca-secret=client (default)",
				"x.redis-tls/ca-key=ca.crt (default)",
				"x.redis-tls/subject-alt-names=a.example.com (default)",
				"x.redis-tls/delivery=mount (default)",
				"x.redis-tls/protocol=tcp (default)",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := annotation.Input{Namespace: "shop", Annotations: test.pod}
			res := annotation.Resolve(in, config.Default(), nil)
			if len(res.Originations) != 1 {
				t.Fatalf("errors: %v", res.Errors)
			}
			got := texts(annotation.DefaultsOf(&res.Originations[0], annotation.Effective(in, config.Default())))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func texts(settings []annotation.Setting) (texts []string) {
	for _, s := range settings {
		texts = append(texts, s.Key+"="+s.Value+" ("+string(s.Source)+")")
	}
	return texts
}
