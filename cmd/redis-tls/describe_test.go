package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/describe"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/exit"
	"github.com/redis-tls/redis-tls/test/catalog"
)

const described = `apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Namespace
  metadata: {name: shop, labels: {istio-injection: enabled, redis-tls/injection: enabled},
    annotations: {redis-tls/ca-secret: redis-ca}}
- apiVersion: batch/v1
  kind: CronJob
  metadata: {name: report, namespace: shop}
  spec:
    jobTemplate: {spec: {template: {
      metadata: {annotations: {redis-tls/host: redis.example.com}},
      spec: {containers: [{name: app, image: app}]}}}}
`

// TestDescribeWithoutACluster proves what the command does where no kubeconfig names a cluster.
func TestDescribeWithoutACluster(t *testing.T) {
	messages := catalog.Open(t)
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, test := range []struct {
		name  string
		args  []string
		input string
		code  int
	}{
		{name: "manifests", args: []string{"-f", "-"}, input: described},
		{
			name:  "a pod that is refused",
			args:  []string{"-f", "-", "--offline"},
			input: strings.Replace(described, "redis.example.com", "REDIS_", 1),
			code:  exit.Findings,
		},
		{name: "a workload of a cluster", args: []string{"deploy/cart"}, code: exit.Failed},
		{name: "no name", code: exit.Usage},
		{name: "a name and a file", args: []string{"deploy/cart", "-f", "-"}, code: exit.Usage},
		{name: "offline without manifests", args: []string{"--offline", "deploy/cart"}, code: exit.Usage},
		{name: "an unknown format", args: []string{"deploy/cart", "-o", "xml"}, code: exit.Usage},
		{
			name:  "manifests without a pod",
			args:  []string{"-f", "-"},
			input: "apiVersion: v1\nkind: Service\nmetadata: {name: redis}\n",
			code:  exit.Input,
		},
		{
			name: "a mesh object that cannot be read",
			args: []string{"-f", "-"},
			input: described + "- apiVersion: networking.istio.io/v1\n  kind: ServiceEntry\n" +
				"  metadata: {name: redis, namespace: shop}\n  spec: {hosts: 1}\n",
			code: exit.Input,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			stdout, stderr, err := run(test.input, append([]string{"describe"}, test.args...)...)
			if exit.Code(err) != test.code {
				t.Errorf("status %d, want %d", exit.Code(err), test.code)
			}
			messages.Add(test.name, strings.Split(strings.TrimSpace(stdout+stderr), "\n")...)
		})
	}
}

func TestDescribeAsJSON(t *testing.T) {
	stdout, _, err := run(described, "describe", "--offline", "-f", "-", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var report describe.Report
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatal(err)
	}
	if report.APIVersion != "redis-tls/v1" || report.Kind != "DescribeReport" || len(report.Items) != 1 {
		t.Fatalf("%s", stdout)
	}
	item := report.Items[0]
	if item.Object != "cronjob/report" || item.Decision.Outcome != "injected" || len(item.Connections) != 1 ||
		item.Settings[1] != (describe.Setting{Key: "redis-tls/ca-secret", Value: "redis-ca", Source: "namespace"}) {
		t.Errorf("%s", stdout)
	}
}
