package check

import (
	"context"
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/redis-tls/redis-tls/test/catalog"
)

// workloadFault is one edit of a healthy workload that makes exactly one check fail.
type workloadFault struct {
	id, name string
	edit     func(s *shop)
}

// annotate sets an annotation of the template and of the pod's request, so that both still agree.
func annotate(key, value string) func(*shop) {
	return func(s *shop) { s.deployment.Spec.Template.Annotations["redis-tls/"+key] = value }
}

func clientCertificate(change func(*x509.Certificate)) func(*shop) {
	return func(s *shop) {
		template := &x509.Certificate{
			NotBefore: noon.AddDate(0, -1, 0), NotAfter: noon.AddDate(1, 0, 0),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		change(template)
		_, key, leaf := sign(s.t, template, newAuthority(s.t, "Client CA", noon.AddDate(5, 0, 0)))
		s.client.Data = map[string][]byte{"tls.crt": leaf, "tls.key": keyPEM(s.t, key)}
	}
}

func answer(file, replace, with string) func(*shop) {
	return func(s *shop) {
		s.envoy = func(answers map[string]string) {
			changed := strings.ReplaceAll(answers[file], replace, with)
			if changed == answers[file] {
				s.t.Errorf("%s does not contain %s", file, replace)
			}
			answers[file] = changed
		}
	}
}

var workloadFaults = []workloadFault{
	{"workload-requests-tls", "no annotations", func(s *shop) {
		s.deployment.Spec.Template.Annotations, s.pod = nil, nil
		s.objects = nil
	}},
	{"workload-requests-tls", "a workload that opts out", func(s *shop) {
		s.deployment.Spec.Template.Labels["redis-tls/inject"] = "false"
		s.pod, s.objects = nil, nil
	}},
	{"workload-sent", "a namespace that the webhook excludes", func(s *shop) {
		for i := range s.facts.webhook().Webhooks {
			requirement := &s.facts.webhook().Webhooks[i].NamespaceSelector.MatchExpressions[0]
			requirement.Values = append(requirement.Values, "shop")
		}
	}},
	{"workload-sent", "no webhook", func(s *shop) { s.facts.Webhooks = s.facts.Webhooks[1:] }},
	{"workload-annotations", "a wrong port", annotate("port", "70000")},
	{"workload-sidecar-expected", "an excluded port", func(s *shop) {
		s.deployment.Spec.Template.Annotations["traffic.sidecar.istio.io/excludeOutboundPorts"] = "6379"
	}},
	{"workload-sidecar-expected", "no injector for the namespace", func(s *shop) {
		s.facts.Webhooks = slices.Clone(s.facts.Webhooks[:2])
	}},
	{"workload-rivals", "a route for the private hosts", func(s *shop) {
		route := &networkingv1.VirtualService{ObjectMeta: meta("mine")}
		route.Spec.Hosts = []string{"*.redis-tls.internal"}
		route.Spec.Tcp = []*networkingapi.TCPRoute{{}}
		s.others = append(s.others, route)
	}},
	{"workload-warnings", "a route of a user for the real host", func(s *shop) {
		route := &networkingv1.VirtualService{ObjectMeta: meta("egress")}
		route.Spec.Hosts = []string{redisHost}
		route.Spec.Tcp = []*networkingapi.TCPRoute{{}}
		s.others = append(s.others, route)
	}},
	{"workload-pods", "no pod", func(s *shop) { s.pod.Status.Phase = corev1.PodFailed }},
	{"pod-admitted", "a pod that was not admitted", func(s *shop) {
		delete(s.pod.Labels, "redis-tls/injected")
	}},
	{"pod-admitted", "a pod with a request that is not allowed now", func(s *shop) {
		s.facts.Release.ConfigMap.Data[configKey] = strings.Replace(s.facts.Release.ConfigMap.Data[configKey],
			"allowedPorts: []", `allowedPorts: ["16222"]`, 1)
		s.pod.Annotations["redis-tls/status"] = strings.Replace(s.pod.Annotations["redis-tls/status"], "16222", "16223", 1)
	}},
	{"pod-current", "a changed annotation", annotate("connect-timeout", "3s")},
	{"pod-admitted", "a lost label", func(s *shop) { delete(s.pod.Labels, "redis-tls/to-"+s.key()) }},
	{"pod-vips", "a lost alias", func(s *shop) { s.pod.Spec.HostAliases = nil }},
	{"pod-started", "a pod at its gate", func(s *shop) {
		s.pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "redis-tls/first-use"}}
	}},
	{"pod-sidecar", "no sidecar", func(s *shop) { s.pod.Spec.InitContainers = nil }},
	{"pod-sidecar-version", "an old sidecar", func(s *shop) {
		s.pod.Spec.InitContainers[0].Image = "istio/proxyv2:1.23.5"
	}},
	{"objects-exist", "no selected rule", func(s *shop) { s.remove(s.rule(false)) }},
	{"workload-rivals", "a rule without the label of redis-tls", func(s *shop) { s.rule(false).Labels = nil }},
	{"objects-unedited", "an edited rule", func(s *shop) {
		s.rule(false).Spec.TrafficPolicy.PortLevelSettings[0].Tls.SubjectAltNames = nil
	}},
	{"closed-rule", "no closed rule", func(s *shop) { s.remove(s.rule(true)) }},
	{"closed-rule", "an open closed rule", func(s *shop) {
		s.rule(true).Spec.TrafficPolicy.Tls.Mode = networkingapi.ClientTLSSettings_DISABLE
	}},
	{"tls-files-exist", "no Secret", func(s *shop) { s.ca.Name = "other" }},
	{"tls-files-exist", "a Secret without the key", func(s *shop) {
		s.ca.Data = map[string][]byte{"ca.pem": []byte("x")}
	}},
	{"tls-files-valid", "a CA that is no certificate", func(s *shop) { s.ca.Data["ca.crt"] = []byte("no PEM") }},
	{"tls-files-valid", "an expired CA", func(s *shop) {
		s.ca.Data["ca.crt"] = newAuthority(s.t, "old", noon.AddDate(0, 0, -1)).pem
	}},
	{"tls-files-valid", "an expired client certificate", clientCertificate(func(c *x509.Certificate) {
		c.NotAfter = noon.AddDate(0, 0, -1)
	})},
	{"tls-files-valid", "a client certificate of tomorrow", clientCertificate(func(c *x509.Certificate) {
		c.NotBefore = noon.AddDate(0, 0, 1)
	})},
	{"tls-files-valid", "a client certificate for servers", clientCertificate(func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})},
	{"tls-files-valid", "the key of another certificate", func(s *shop) {
		key := s.client.Data["tls.key"]
		clientCertificate(func(*x509.Certificate) {})(s)
		s.client.Data["tls.key"] = key
	}},
	{"tls-files-valid", "a chain in the wrong order", func(s *shop) {
		s.client.Data["tls.crt"] = slices.Concat(s.client.Data["tls.crt"], newAuthority(s.t, "other", noon.AddDate(1, 0,
			0)).pem)
	}},
	{"tls-files-valid", "no client certificate", func(s *shop) { s.client.Data["tls.crt"] = []byte("no PEM") }},
	{"tls-files-expiry", "a client certificate that expires soon", func(s *shop) {
		clientCertificate(func(c *x509.Certificate) { c.NotAfter = noon.AddDate(0, 0, 7) })(s)
		answer("certs.json", "2027-11-30T12:00:00Z", "2026-12-07T12:00:00Z")(s)
	}},
	{"tls-files-expiry", "a CA that expires soon", func(s *shop) {
		s.ca.Data["ca.crt"] = newAuthority(s.t, "soon", noon.AddDate(0, 0, 7)).pem
		answer("certs.json", "2031-11-30T12:00:00Z", "2026-12-07T12:00:00Z")(s)
	}},
}

// failures puts a failed handshake into the counters of the sidecar.
var failures = strings.NewReplacer(`"value": "1"`, `"value": "4"`,
	`"name": "cx_connect_fail"`, `"value": "3", "name": "cx_connect_fail"`,
	`.ssl.fail_verify_error","value":0`, `.ssl.fail_verify_error","value":3`)

var proxyFaults = []workloadFault{
	{"sidecar-clusters", "no cluster", answer("config_dump.json", "outbound|6379||redis", "outbound|6379||other")},
	{"sidecar-tls-context", "another SNI and other names", answer("config_dump.json", `"redis.example.com"`,
		`"other.example.com"`)},
	{"sidecar-tls-context", "another CA", answer("config_dump.json", "/ca.crt", "/other.crt")},
	{"sidecar-tls-context", "plaintext", answer("config_dump.json", "transport_socket", "unknown")},
	{"sidecar-certificates", "an older certificate", answer("certs.json", `"serial_number": "01"`,
		`"serial_number": "02"`)},
	{"sidecar-endpoints", "no endpoint", answer("clusters.json", "host_statuses", "unknown")},
	{"sidecar-endpoints", "an unhealthy endpoint", answer("clusters.json", `"HEALTHY"`, `"UNHEALTHY"`)},
	{"sidecar-handshakes", "a failed handshake", func(s *shop) {
		s.envoy = func(answers map[string]string) {
			for _, file := range []string{"clusters.json", "stats.json"} {
				answers[file] = failures.Replace(answers[file])
			}
		}
	}},
}

// TestEachWorkloadFaultFailsExactlyItsCheck has the text that users read for each fault of a workload.
func TestEachWorkloadFaultFailsExactlyItsCheck(t *testing.T) {
	c := catalog.Open(t)
	tested := map[string]bool{}
	for _, test := range slices.Concat(workloadFaults, proxyFaults) {
		t.Run(test.id+"/"+test.name, func(t *testing.T) {
			s := newShop(t)
			test.edit(s)
			report := s.report()
			wantOnly(t, report, test.id)
			tested[test.id] = true
			c.Add(test.name, printed(t, report, true))
		})
	}
	for _, check := range Checks() {
		if isOfWorkload(check.Category) && !tested[check.ID] {
			t.Errorf("no fault fails the check %s", check.ID)
		}
	}
}

func TestHealthyWorkloadPassesEveryCheck(t *testing.T) {
	c := catalog.Open(t)
	report := newShop(t).report()
	if s := report.Summary; s.Errors+s.Warnings+s.Skipped > 0 || !report.Success {
		t.Errorf("summary: %s", s)
	}
	c.Add("a Deployment", printed(t, report, false))
	report.Groups = append(report.Groups, report.Groups...)
	c.Add("two workloads are a line each", printed(t, report, false))
}

// TestWhatIsDeniedSkipsItsChecks proves that no check of a workload passes on what the user may not read.
func TestWhatIsDeniedSkipsItsChecks(t *testing.T) {
	c := catalog.Open(t)
	for name, test := range map[string]struct {
		denied string
		skips  []string
	}{
		"Secrets": {"secrets", []string{"tls-files-exist", "tls-files-valid", "tls-files-expiry"}},
		"objects of Istio": {"destinationrules", []string{"workload-rivals", "objects-exist", "closed-rule",
			"sidecar-clusters"}},
		"pods": {"pods", []string{"workload-requests-tls", "pod-admitted"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			s.denied = map[string]bool{test.denied: true}
			report := s.report()
			if len(report.Groups) == 0 {
				t.Fatal("no workload")
			}
			statuses := map[string]Status{}
			for _, o := range report.Groups[0].Checks {
				statuses[o.ID] = o.Status
			}
			for _, id := range test.skips {
				if statuses[id] != Skipped {
					t.Errorf("%s %s, want skipped", id, statuses[id])
				}
			}
			c.Add(name, printed(t, report, true))
		})
	}
	t.Run("pods/exec", func(t *testing.T) {
		s := newShop(t)
		s.envoy = func(answers map[string]string) { answers["certs.json"] = "" }
		c.Add("a sidecar that does not answer", printed(t, s.report(), true))
	})
}

// TestOnlyWhatSelectedChecksNeedIsRead proves that --skip keeps the command from Secrets and from pods/exec.
func TestOnlyWhatSelectedChecksNeedIsRead(t *testing.T) {
	s := newShop(t)
	s.denied = map[string]bool{"secrets": true}
	s.envoy = func(map[string]string) { t.Error("the sidecar was read") }
	for _, c := range Checks() {
		if slices.Contains(c.Needs, sourceFiles) || slices.Contains(c.Needs, sourceSidecar) {
			s.selection.Skip = append(s.selection.Skip, c.ID)
		}
	}
	report := s.report()
	if report.Summary.Skipped+report.Summary.Errors+report.Summary.Warnings > 0 || report.Summary.Passed == 0 {
		t.Error(printed(t, report, true))
	}
	w := s.workloads()[0]
	if len(w.Files) > 0 || len(w.Proxies) > 0 {
		t.Errorf("files %v and %d sidecars were read", w.Files, len(w.Proxies))
	}
}

// denying returns a client that may not list or get these resources.
func denying(c client.WithWatch, denied map[string]bool) client.Client {
	forbidden := func(object any) error {
		resource := ""
		switch object.(type) {
		case *corev1.PodList:
			resource = "pods"
		case *corev1.Secret:
			resource = "secrets"
		case *networkingv1.DestinationRuleList:
			resource = "destinationrules"
		}
		if !denied[resource] {
			return nil
		}
		return apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "", nil)
	}
	return interceptor.NewClient(c, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			if err := forbidden(list); err != nil {
				return err
			}
			return c.List(ctx, list, options...)
		},
		Get: func(
			ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption,
		) error {
			if err := forbidden(object); err != nil {
				return err
			}
			return c.Get(ctx, key, object, options...)
		},
	})
}
