package preview

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/test/catalog"
)

func TestMissingFilesAreWarnedAbout(t *testing.T) {
	c := catalog.Open(t)
	const (
		other       = "apiVersion: v1\nkind: Secret\nmetadata: {name: other}\n"
		elsewhere   = "apiVersion: v1\nkind: Secret\nmetadata: {name: other, namespace: pay}\n"
		configMap   = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n"
		ca          = "apiVersion: v1\nkind: Secret\nmetadata: {name: redis-ca}\n"
		certificate = "---\napiVersion: cert-manager.io/v1\nkind: Certificate\nmetadata: {name: c}\n" +
			"spec: {secretName: redis-ca}\n"
		bySecret    = "    redis-tls/ca-secret: redis-ca\n"
		byConfigMap = "    redis-tls/ca-configmap: redis-ca\n"
		byClient    = "    redis-tls/mode: mutual\n    redis-tls/client-secret: redis-ca\n"
	)
	for _, test := range []struct {
		name, annotations, input string
		want                     []string // the annotations with a warning
	}{
		{
			name:        "a Secret with the key",
			annotations: bySecret,
			input:       ca + "data: {ca.crt: eA==}\n",
		},
		{
			name:        "a Secret with the key as text",
			annotations: bySecret,
			input:       ca + "stringData: {ca.crt: x}\n",
		},
		{
			name:        "a Secret without the key",
			annotations: bySecret,
			input:       ca + "data: {tls.crt: eA==}\n",
			want:        []string{"ca-secret"},
		},
		{
			name:        "a Secret without the key of ca-key",
			annotations: bySecret + "    redis-tls/ca-key: root.pem\n",
			input:       ca + "data: {ca.crt: eA==}\n",
			want:        []string{"ca-secret"},
		},
		{
			name:        "a Secret that is not there",
			annotations: bySecret,
			input:       other,
			want:        []string{"ca-secret"},
		},
		{
			name:        "a Secret of an input without Secrets of the namespace",
			annotations: bySecret,
			input:       configMap + "---\n" + elsewhere,
		},
		{
			name:        "a Secret that cert-manager makes",
			annotations: bySecret,
			input:       other + certificate,
		},
		{
			name:        "a Secret that is sealed",
			annotations: bySecret,
			input:       other + "---\napiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: redis-ca}\n",
		},
		{
			name:        "a Secret with the name of a ServiceAccount",
			annotations: bySecret,
			input:       other + "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: redis-ca}\n",
			want:        []string{"ca-secret"},
		},
		{
			name:        "a ConfigMap with the key",
			annotations: byConfigMap,
			input:       strings.Replace(ca, "Secret", "ConfigMap", 1) + "data: {ca.crt: x}\n",
		},
		{
			name:        "a ConfigMap without the key",
			annotations: byConfigMap,
			input:       strings.Replace(ca, "Secret", "ConfigMap", 1),
			want:        []string{"ca-configmap"},
		},
		{
			name:        "a ConfigMap that is not there",
			annotations: byConfigMap,
			input:       configMap,
			want:        []string{"ca-configmap"},
		},
		{
			name:        "a ConfigMap that each namespace has",
			annotations: "    redis-tls/ca-configmap: kube-root-ca.crt\n",
			input:       configMap,
		},
		{
			name:        "a client certificate with its key and CA",
			annotations: byClient,
			input:       ca + "data: {tls.crt: eA==, tls.key: eA==, ca.crt: eA==}\n",
		},
		{
			name:        "a client certificate without key and CA",
			annotations: byClient,
			input:       ca + "data: {tls.crt: eA==}\n",
			want:        []string{"client-secret", "client-secret"},
		},
		{
			name:        "a CA of secret discovery by another key",
			annotations: bySecret + "    redis-tls/delivery: sds\n",
			input:       ca + "data: {cacert: eA==}\n",
		},
		{
			name:        "a client certificate of secret discovery by other keys",
			annotations: byClient + "    redis-tls/delivery: sds\n",
			input:       ca + "data: {cert: eA==, key: eA==}\n",
		},
		{
			name:        "a client certificate that cert-manager will make",
			annotations: "    redis-tls/mode: mutual\n    redis-tls/issuer: redis\n",
			input:       other,
		},
		{
			name:  "the system roots",
			input: other,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			annotated := strings.Replace(pod, "spec:\n", test.annotations+"spec:\n", 1)
			cfg := config.Default()
			cfg.Policy.AllowedIssuers = []string{"Issuer/redis"}
			result, err := Run(Input{
				Files:     []*manifest.File{parse(t, "p.yaml", annotated), parse(t, "f.yaml", test.input)},
				Namespace: "shop", Config: cfg,
			})
			if err != nil || len(problemsOf(result)) > 0 {
				t.Fatal(err, problemsOf(result))
			}
			var got []string
			for _, f := range result.Findings {
				if f.Reason == ReasonMissingFile {
					got = append(got, strings.TrimSuffix(strings.TrimPrefix(f.Path, "metadata.annotations[redis-tls/"), "]"))
					c.Add(test.name, f.Message)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
