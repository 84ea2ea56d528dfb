// Package chart tests the objects that Helm renders from charts/redis-tls, without a cluster. Package apiserver tests
// them on an API server.
package chart

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/util"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/test/catalog"
	"github.com/redis-tls/redis-tls/test/harness"
)

const chartDir = "../../charts/redis-tls"

// TestGolden renders the values.yaml of each directory of testdata, and compares the result with want.yaml.
func TestGolden(t *testing.T) {
	directories, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, directory := range directories {
		t.Run(directory.Name(), func(t *testing.T) {
			dir := filepath.Join("testdata", directory.Name())
			release, err := harness.RenderChart(chartDir, readValues(t, filepath.Join(dir, "values.yaml")), nil)
			if err != nil {
				t.Fatal(err)
			}
			got := text(release.Files)
			golden := filepath.Join(dir, "want.yaml")
			if *catalog.Update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf(
					"the result differs from %s (-want +got); go test ./test/chart -update accepts it\n%s",
					golden,
					diff,
				)
			}
			wantNoOtherFiles(t, dir, "values.yaml", "want.yaml")
		})
	}
}

func wantNoOtherFiles(t *testing.T, dir string, known ...string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !slices.Contains(known, file.Name()) {
			t.Errorf("%s belongs to no case; remove it", filepath.Join(dir, file.Name()))
		}
	}
}

// text joins rendered files as helm template does, sorted by name and without empty ones.
func text(files map[string]string) string {
	var names []string
	for name, content := range files {
		if strings.TrimSpace(content) != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "---\n# Source: %s\n%s\n", name, strings.TrimSpace(files[name]))
	}
	return b.String()
}

func readValues(t *testing.T, file string) map[string]any {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return parseValues(t, string(content))
}

func parseValues(t *testing.T, content string) map[string]any {
	t.Helper()
	values := map[string]any{}
	if err := yaml.UnmarshalStrict([]byte(content), &values); err != nil {
		t.Fatal(err)
	}
	return values
}

func TestLint(t *testing.T) {
	linter := lint.RunAll(chartDir, nil, harness.ReleaseNamespace)
	for _, message := range linter.Messages {
		if message.Severity >= support.WarningSev {
			t.Error(message)
		}
	}
}

func TestKubernetesVersions(t *testing.T) {
	chart, err := util.LoadChartfile(filepath.Join(chartDir, "Chart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for version, want := range map[string]bool{
		"v1.29.9": false, // no admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy
		"v1.30.0": true, "v1.30.4-gke.1129000": true, "v1.36.3": true,
	} {
		if got := util.IsCompatibleRange(chart.KubeVersion, version); got != want {
			t.Errorf("Kubernetes %s: installable %v, want %v", version, got, want)
		}
	}
}

// TestIstioVersions tests the check of Istio's version by its APIs. Package apiserver tests the one by its Deployment.
func TestIstioVersions(t *testing.T) {
	c := catalog.Open(t)
	for name, test := range map[string]struct {
		apis []string
		want string // part of the error
	}{
		"no Istio yet": {},
		"Istio 1.21": {
			apis: []string{"networking.istio.io/v1alpha3", "networking.istio.io/v1beta1"},
			want: "networking.istio.io/v1",
		},
		"Istio with v1": {
			apis: []string{"networking.istio.io/v1alpha3", "networking.istio.io/v1beta1", "networking.istio.io/v1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			capabilities := common.DefaultCapabilities.Copy()
			capabilities.APIVersions = append(capabilities.APIVersions, test.apis...)
			_, err := harness.RenderChart(chartDir, nil, capabilities)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			c.Add(name, sentences(err)...)
		})
	}
}

func TestWrongValuesAreRefusedWithTheirPath(t *testing.T) {
	for name, test := range map[string]struct{ values, want string }{
		"a key that does not exist": {
			values: "replicas: 3",
			want:   "additional properties 'replicas' not allowed",
		},
		"a misspelt key of the policy": {
			values: "policy: {allowedHost: [a.example.com]}",
			want:   "at '/policy': additional properties 'allowedHost' not allowed",
		},
		"an unknown policy mode": {
			values: "policy: {mode: audit}",
			want:   "at '/policy/mode': value must be one of 'enforce', 'warn'",
		},
		"a single host instead of a list": {
			values: "policy: {allowedHosts: a.example.com}",
			want:   "at '/policy/allowedHosts': got string, want array",
		},
		"a port as a number": {
			values: "policy: {allowedPorts: [6379]}",
			want:   "at '/policy/allowedPorts/0': got number, want string",
		},
		"an address that is not a CIDR": {
			values: "policy: {allowedCIDRs: [10.0.0.1]}",
			want:   "at '/policy/allowedCIDRs/0': '10.0.0.1' does not match pattern",
		},
		"a VIP range that is IPv6": {
			values: "vip: {cidr: 'fdf0::/64'}",
			want:   "at '/vip/cidr': 'fdf0::/64' does not match pattern",
		},
		"an invalid address": {
			values: "vip: {cidr: 251.0.0.256/16}",
			want:   "at '/vip/cidr': '251.0.0.256/16' does not match pattern",
		},
		"a VIP range of too few addresses": {
			values: "vip: {cidr: 251.0.0.0/25}",
			want:   "at '/vip/cidr': '251.0.0.0/25' does not match pattern",
		},
		"a VIP range longer than an address": {
			values: "vip: {ipv6CIDR: 'fd00::/129'}",
			want:   "at '/vip/ipv6CIDR': 'fd00::/129' does not match pattern",
		},
		"a CIDR longer than an address": {
			values: "policy: {allowedCIDRs: [10.0.0.0/33]}",
			want:   "at '/policy/allowedCIDRs/0': '10.0.0.0/33' does not match pattern",
		},
		"a port above the maximum": {
			values: "policy: {allowedPorts: ['65536']}",
			want:   "at '/policy/allowedPorts/0': '65536' does not match pattern",
		},
		"a host with its port": {
			values: "policy: {allowedHosts: ['a.example.com:6379']}",
			want:   "at '/policy/allowedHosts/0': 'a.example.com:6379' does not match pattern",
		},
		"a wildcard inside a host": {
			values: "policy: {allowedHosts: ['a.*.example.com']}",
			want:   "at '/policy/allowedHosts/0': 'a.*.example.com' does not match pattern",
		},
		"an issuer without its kind": {
			values: "policy: {allowedIssuers: [redis]}",
			want:   "at '/policy/allowedIssuers/0': 'redis' does not match pattern",
		},
		"a misspelt annotation": {
			values: "defaults: {redis-tls/hots: a}",
			want:   "at '/defaults': additional properties 'redis-tls/hots' not allowed",
		},
		"a removed VIP range": {
			values: "vip: {cidr: null}",
			want:   "at '/vip': missing property 'cidr'",
		},
		"a duration without a unit": {
			values: "firstUse: {delay: '1'}",
			want:   "at '/firstUse/delay': '1' does not match pattern",
		},
		"a gate that is neither on nor off": {
			values: "firstUse: {gate: sometimes}",
			want:   "at '/firstUse/gate': got string, want boolean",
		},
		"a default with another prefix": {
			values: "defaults: {redis/host: a.example.com}",
			want:   "at '/defaults': additional properties 'redis/host' not allowed",
		},
		"a default that is a list": {
			values: "defaults: {redis-tls/port: [6379]}",
			want:   "at '/defaults/redis-tls~1port': got array, want boolean or integer or string",
		},
		"an excluded namespace without a name": {
			values: "excludedNamespaces: ['']",
			want:   "at '/excludedNamespaces/0': '' does not match pattern",
		},
		"a trust domain that is a URI": {
			values: "istio: {trustDomain: 'spiffe://a'}",
			want:   "at '/istio/trustDomain': 'spiffe://a' does not match pattern",
		},
		"system roots that are not a path": {
			values: "istio: {systemRoots: ca.crt}",
			want:   "at '/istio/systemRoots': 'ca.crt' does not match pattern",
		},
		"a limit of no keys": {
			values: "policy: {maxKeysPerNamespace: 0}",
			want:   "at '/policy/maxKeysPerNamespace': minimum: got 0, want 1",
		},
		"a limit above the maximum": {
			values: "policy: {maxKeysPerNamespace: 1001}",
			want:   "at '/policy/maxKeysPerNamespace': maximum: got 1,001, want 1,000",
		},
		"a number of keys as a string": {
			values: "policy: {maxKeysPerNamespace: '100'}",
			want:   "at '/policy/maxKeysPerNamespace': got string, want integer",
		},
		"no replica": {
			values: "replicaCount: 0",
			want:   "at '/replicaCount': minimum: got 0, want 1",
		},
		"a digest without its algorithm": {
			values: "image: {digest: e3b0c442}",
			want:   "at '/image/digest': 'e3b0c442' does not match pattern",
		},
		"protection of objects as a string": {
			values: "guard: {protectObjects: 'yes'}",
			want:   "at '/guard/protectObjects': got string, want boolean",
		},
		"a pull secret without its field": {
			values: "imagePullSecrets: [registry]",
			want:   "at '/imagePullSecrets/0': got string, want object",
		},
		"a cluster domain with a trailing dot": {
			values: "clusterDomain: cluster.local.",
			want:   "at '/clusterDomain': 'cluster.local.' does not match pattern",
		},
		"a grace period that is not a duration": {
			values: "cleanup: {gracePeriod: forever}",
			want:   "at '/cleanup/gracePeriod': 'forever' does not match pattern",
		},
		"an unknown field of resources": {
			values: "resources: {request: {cpu: 1}}",
			want:   "at '/resources': additional properties 'request' not allowed",
		},
		"an unknown mode of certificates": {
			values: "certs: {mode: certmanager}",
			want:   "at '/certs/mode': value must be one of 'self-signed', 'cert-manager', 'provided'",
		},
		"a CA that is a path": {
			values: "certs: {mode: provided, caBundle: /etc/ca.crt}",
			want:   "at '/certs/caBundle': '/etc/ca.crt' does not match pattern",
		},
		"an invalid name of a Secret": {
			values: "certs: {mode: provided, provided: {secretName: My Secret}}",
			want:   "at '/certs/provided/secretName': 'My Secret' does not match pattern",
		},
		"a certificate's duration in days": {
			values: "certs: {certManager: {duration: 90d}}",
			want:   "at '/certs/certManager/duration': '90d' does not match pattern",
		},
		"an issuer as a string": {
			values: "certs: {certManager: {issuerRef: internal}}",
			want:   "at '/certs/certManager/issuerRef': got string, want object",
		},
		"a network policy that is a string": {
			values: "networkPolicy: {enabled: 'on'}",
			want:   "at '/networkPolicy/enabled': got string, want boolean",
		},
		"no port of the API server": {
			values: "networkPolicy: {apiServerPorts: []}",
			want:   "at '/networkPolicy/apiServerPorts': minItems: got 0, want 1",
		},
		"a metrics port above the maximum": {
			values: "metrics: {service: {port: 70000}}",
			want:   "at '/metrics/service/port': maximum: got 70,000, want 65,535",
		},
		"a misspelt key of the metrics": {
			values: "metrics: {serviceMonitors: {enabled: true}}",
			want:   "at '/metrics': additional properties 'serviceMonitors' not allowed",
		},
		"a label of objects that is a boolean": {
			values: "objectLabels: {velero.io/exclude-from-backup: true}",
			want:   "at '/objectLabels/velero.io~1exclude-from-backup': got boolean, want string",
		},
		"a misspelt key of an alert": {
			values: "metrics: {prometheusRule: {alerts: {RedisTLSNoLeader: {after: 1m}}}}",
			want:   "at '/metrics/prometheusRule/alerts/RedisTLSNoLeader': additional properties 'after' not allowed",
		},
		"a time of an alert without a unit": {
			values: "metrics: {prometheusRule: {alerts: {RedisTLSNoLeader: {for: '5'}}}}",
			want:   "at '/metrics/prometheusRule/alerts/RedisTLSNoLeader/for': '5' does not match pattern",
		},
		"a test without a namespace": {
			values: "helmTest: {namespace: ''}",
			want:   "at '/helmTest/namespace': '' does not match pattern",
		},
		"an interval without a unit": {
			values: "metrics: {serviceMonitor: {interval: '30'}}",
			want:   "at '/metrics/serviceMonitor/interval': '30' does not match pattern",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := harness.RenderChart(chartDir, parseValues(t, test.values), nil)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

// TestContradictingValuesAreRefused proves the checks that the schema cannot express, and that all problems are
// reported at once. The table has the values that each problem is about.
func TestContradictingValuesAreRefused(t *testing.T) {
	c := catalog.Open(t)
	for name, test := range map[string]struct {
		values   string
		problems int
		want     []string // paths, in the order of the problems
	}{
		"mode provided without the name of the Secret": {
			values:   "certs: {mode: provided}",
			problems: 1,
			want:     []string{"certs.provided.secretName"},
		},
		"mode provided with the Secret of mode self-signed": {
			values:   "certs: {mode: provided, provided: {secretName: redis-tls-webhook-cert}}",
			problems: 1,
			want:     []string{"certs.provided.secretName"},
		},
		"mode provided with the Secret of mode cert-manager": {
			values:   "certs: {mode: provided, provided: {secretName: redis-tls-webhook-tls}}",
			problems: 1,
			want:     []string{"certs.provided.secretName"},
		},
		"a provided Secret in another mode": {
			values:   "certs: {provided: {secretName: mine}}",
			problems: 1,
			want:     []string{"certs.provided.secretName"},
		},
		"CAs with mode self-signed": {
			values:   "certs: {caBundle: '-----BEGIN CERTIFICATE-----'}",
			problems: 1,
			want:     []string{"certs.caBundle"},
		},
		"an issuer without cert-manager": {
			values:   "certs: {certManager: {issuerRef: {name: internal}}}",
			problems: 1,
			want:     []string{"certs.certManager.issuerRef.name"},
		},
		"a certificate that is always due for renewal": {
			values:   "certs: {mode: cert-manager, certManager: {duration: 24h, renewBefore: 24h}}",
			problems: 1,
			want:     []string{"certs.certManager.renewBefore"},
		},
		"names of clients without a CA": {
			values:   "clients: {names: [kube-apiserver]}",
			problems: 1,
			want:     []string{"clients.names"},
		},
		"a label that the Service selects pods by": {
			values:   "podLabels: {app.kubernetes.io/name: mine}",
			problems: 1,
			want:     []string{"app.kubernetes.io/name"},
		},
		"a sidecar for the webhook": {
			values:   "podLabels: {sidecar.istio.io/inject: 'true'}",
			problems: 1,
			want:     []string{"sidecar.istio.io/inject"},
		},
		"a common label that the chart sets": {
			values:   "commonLabels: {helm.sh/chart: mine}",
			problems: 1,
			want:     []string{"commonLabels[helm.sh/chart]"},
		},
		"two uses of one port": {
			values:   "metrics: {port: 9443}",
			problems: 1,
			want:     []string{"webhook.securePort", "metrics.port", "9443, 8081, 9443"},
		},
		"helm test in an excluded namespace": {
			values:   "helmTest: {namespace: kube-system}",
			problems: 1,
			want:     []string{"helmTest.namespace", "kube-system"},
		},
		"helm test in the release's namespace": {
			values:   "helmTest: {namespace: redis-tls-system}",
			problems: 1,
			want:     []string{"helmTest.namespace", "redis-tls-system"},
		},
		"a label that marks the objects of redis-tls": {
			values:   "objectLabels: {app.kubernetes.io/managed-by: Helm}",
			problems: 1,
			want:     []string{"objectLabels[app.kubernetes.io/managed-by]"},
		},
		"annotations of objects that others read": {
			values: "objectAnnotations: {sessions.redis-tls/host: a, networking.istio.io/exportTo: b, " +
				"kubectl.kubernetes.io/last-applied-configuration: c}",
			problems: 3,
			want:     []string{"[sessions.redis-tls/host]", "[networking.istio.io/exportTo]", "[kubectl.kubernetes.io/"},
		},
		"a misspelt alert": {
			values:   "metrics: {prometheusRule: {alerts: {RedisTLSAbsent: {for: 1m}}}}",
			problems: 1,
			want:     []string{"metrics.prometheusRule.alerts.RedisTLSAbsent"},
		},
		"a threshold of an alert that has none": {
			values:   "metrics: {prometheusRule: {alerts: {RedisTLSWebhookAbsent: {threshold: 1}}}}",
			problems: 1,
			want:     []string{"metrics.prometheusRule.alerts.RedisTLSWebhookAbsent.threshold"},
		},
		"no range for VIPs": {
			values:   "vip: {cidr: ''}",
			problems: 1,
			want:     []string{"vip.cidr", "vip.ipv6CIDR"},
		},
		"a range of ports whose end is before its start": {
			values:   "policy: {allowedPorts: ['6400-6379', '6379-6400', '6379']}",
			problems: 1,
			want:     []string{"policy.allowedPorts"},
		},
		"a range of ports of an entry whose end is before its start": {
			values:   "policy: {namespaces: [{selector: {matchLabels: {a: b}}, allowedPorts: ['6400-6379']}]}",
			problems: 1,
			want:     []string{"policy.namespaces[0].allowedPorts"},
		},
		"a trial of namespaces with two labels": {
			values:   "policy: {namespaces: [{selector: {matchLabels: {a: b, c: d}}, mode: warn}]}",
			problems: 1,
			want:     []string{"policy.namespaces[0].selector"},
		},
		"a trial of namespaces with a label and an expression": {
			values: "policy: {namespaces: [{selector: {matchLabels: {a: b}, matchExpressions: " +
				"[{key: c, operator: Exists}]}, mode: warn}]}",
			problems: 1,
			want:     []string{"policy.namespaces[0].selector"},
		},
		"several problems at once": {
			values: "{certs: {mode: provided, certManager: {issuerRef: {name: internal}}}, " +
				"podLabels: {app.kubernetes.io/component: mine}}",
			problems: 3,
			want:     []string{"certs.provided.secretName", "certs.certManager.issuerRef.name", "app.kubernetes.io/component"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := harness.RenderChart(chartDir, parseValues(t, test.values), nil)
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want an error with %q", err, want)
				}
			}
			problems := sentences(err)
			if len(problems) != 1+test.problems {
				t.Errorf("got %q, want %d problems below the heading", problems, test.problems)
			}
			c.Add(name, problems...)
		})
	}
}

// sentences returns the lines of an error of Helm, without where in the template it was raised.
func sentences(err error) []string {
	if err == nil {
		return nil
	}
	_, message, _ := strings.Cut(err.Error(), "\n\n")
	return strings.Split(strings.TrimSpace(message), "\n")
}

// TestRenderingIsRepeatable: GitOps tools render the chart again and again, and report every difference.
func TestRenderingIsRepeatable(t *testing.T) {
	values := readValues(t, "testdata/everything-on/values.yaml")
	first, err := harness.RenderChart(chartDir, values, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		again, err := harness.RenderChart(chartDir, values, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first.Files, again.Files); diff != "" {
			t.Fatalf("rendered twice (-first +again):\n%s", diff)
		}
	}
}
