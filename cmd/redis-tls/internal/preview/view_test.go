package preview

import (
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/internal/config"
)

// TestObjectsOfTheInputDecideAsInTheCluster proves that each kind of object that the webhook reads in the cluster is
// read in the input, where it applies to the namespace. The messages are those of the packages that check.
func TestObjectsOfTheInputDecideAsInTheCluster(t *testing.T) {
	const istio = "apiVersion: networking.istio.io/v1\nkind: "
	service := func(namespace, spec string) string {
		return "apiVersion: v1\nkind: Service\nmetadata: {name: redis, namespace: " + namespace + "}\nspec: {" + spec + "}\n"
	}
	const inMesh = "redis-tls/host: redis\n    redis-tls/mode: istio-mutual"
	const byAddress = "redis-tls/addresses: 10.96.0.10\n    redis-tls/ca-secret: ca"
	const http = "redis-tls/host: api.example.com\n    redis-tls/protocol: http"
	for _, test := range []struct {
		name        string
		annotations string // of the pod in namespace shop
		input       string
		want        string // a part of the only problem; empty for none
	}{
		{
			name:        "an entry of the namespace",
			annotations: byAddress,
			input: istio + "ServiceEntry\nmetadata: {name: own}\nspec: {hosts: [a.example.com], addresses: [10.96.0.10], " +
				"ports: [{number: 6379, name: tcp, protocol: TCP}]}\n",
			want: "ServiceEntry shop/own",
		},
		{
			name:        "an entry of another namespace",
			annotations: byAddress,
			input: istio + "ServiceEntry\nmetadata: {name: own, namespace: pay}\nspec: {hosts: [a.example.com], " +
				"addresses: [10.96.0.10], ports: [{number: 6379, name: tcp, protocol: TCP}]}\n",
			want: "ServiceEntry pay/own",
		},
		{
			name:        "an entry that another namespace exports to this one",
			annotations: byAddress,
			input: istio + "ServiceEntry\nmetadata: {name: own, namespace: pay}\nspec: {hosts: [a.example.com], " +
				"exportTo: [shop], addresses: [10.96.0.10], ports: [{number: 6379, name: tcp, protocol: TCP}]}\n",
			want: "ServiceEntry pay/own",
		},
		{
			name:        "an entry that another namespace keeps to itself",
			annotations: byAddress,
			input: istio + "ServiceEntry\nmetadata: {name: own, namespace: pay}\nspec: {hosts: [a.example.com], " +
				"exportTo: [.], addresses: [10.96.0.10], ports: [{number: 6379, name: tcp, protocol: TCP}]}\n",
		},
		{
			name:        "a rule of an older version",
			annotations: http,
			input: "apiVersion: networking.istio.io/v1beta1\nkind: DestinationRule\nmetadata: {name: own}\n" +
				"spec: {host: api.example.com}\n",
			want: "DestinationRule shop/own",
		},
		{
			name:        "a rule of the root namespace",
			annotations: http,
			input: istio + "DestinationRule\nmetadata: {name: all, namespace: istio-system}\n" +
				"spec: {host: '*.example.com'}\n",
			want: "DestinationRule istio-system/all",
		},
		{
			name:        "a route of the namespace",
			annotations: http,
			input:       istio + "VirtualService\nmetadata: {name: own}\nspec: {hosts: [api.example.com], exportTo: ['.']}\n",
			want:        "VirtualService shop/own",
		},
		{
			name:        "a route of another namespace",
			annotations: http,
			input:       istio + "VirtualService\nmetadata: {name: own, namespace: pay}\nspec: {hosts: [api.example.com]}\n",
			want:        "VirtualService pay/own",
		},
		{
			name:        "a Sidecar without the managed hosts",
			annotations: "redis-tls/host: redis.example.com",
			input:       istio + "Sidecar\nmetadata: {name: own}\nspec: {egress: [{hosts: ['./redis']}]}\n",
			want:        "Sidecar shop/own",
		},
		{
			name:        "a Sidecar of the root namespace",
			annotations: "redis-tls/host: redis.example.com",
			input: istio + "Sidecar\nmetadata: {name: all, namespace: istio-system}\n" +
				"spec: {egress: [{hosts: ['istio-system/*']}]}\n",
			want: "Sidecar istio-system/all",
		},
		{
			name:        "a Sidecar of another namespace",
			annotations: "redis-tls/host: redis.example.com",
			input:       istio + "Sidecar\nmetadata: {name: all, namespace: pay}\nspec: {egress: [{hosts: ['./redis']}]}\n",
		},
		{
			name:        "a PeerAuthentication",
			annotations: "redis-tls/server: strict",
			input: "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: own}\n" +
				"spec: {selector: {matchLabels: {sidecar.istio.io/inject: \"true\"}}, mtls: {mode: PERMISSIVE}}\n",
			want: "PeerAuthentication shop/own",
		},
		{
			name:        "a Service that is an alias",
			annotations: inMesh,
			input:       service("shop", "type: ExternalName, externalName: redis.example.com"),
			want:        "shop/redis is an alias of redis.example.com",
		},
		{
			name:        "a Service of pods",
			annotations: inMesh,
			input:       service("shop", "selector: {app: redis}"),
		},
		{
			name:        "a Service that the input does not have",
			annotations: inMesh,
		},
		{
			name:        "a Service that the resolver would find",
			annotations: "redis-tls/host: redis.pay\n    redis-tls/ca-secret: ca",
			input:       service("pay", "selector: {app: redis}"),
			want:        "redis.pay.svc.cluster.local",
		},
		{
			name:        "the address of a Service",
			annotations: byAddress,
			input:       service("pay", "clusterIP: 10.96.0.10"),
			want:        "pay/redis",
		},
		{
			name:        "a Service that Kubernetes would not accept",
			annotations: "redis-tls/host: redis.example.com",
			input:       service("shop", "selector: app"),
			want:        "ServiceSpec.spec.selector",
		},
		{
			name:        "a field of a later Istio",
			annotations: byAddress,
			input: istio + "ServiceEntry\nmetadata: {name: own}\nspec: {hosts: [a.example.com], addresses: [10.96.0.10], " +
				"later: {a: b}, ports: [{number: 6379, name: tcp, protocol: TCP}]}\n",
			want: "ServiceEntry shop/own",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			annotated := strings.Replace(pod, "redis-tls/host: redis.example.com", test.annotations, 1)
			var files []*manifest.File
			for _, text := range []string{annotated, test.input} {
				files = append(files, parse(t, "f.yaml", text))
			}
			result, err := Run(Input{Files: files, Namespace: "shop", Config: config.Default()})
			if err != nil {
				t.Fatal(err)
			}
			problems := problemsOf(result)
			switch {
			case test.want == "" && len(problems) > 0:
				t.Errorf("got %v, want no problem", problems)
			case test.want != "" && (len(problems) != 1 || !strings.Contains(problems[0].Message, test.want)):
				t.Errorf("got %v, want one problem with %q", problems, test.want)
			}
		})
	}
}
