package check

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/term"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// fault is one edit of healthy facts that makes exactly one check fail.
type fault struct {
	id, name string
	edit     func(f *Facts)
}

var faultsOfClusters = []fault{
	{"kubernetes-version", "an old Kubernetes", func(f *Facts) { f.Kubernetes = "v1.29.15-eks-1" }},
	{"kubernetes-version", "no version", func(f *Facts) { f.Kubernetes = "unknown" }},
	{"vip-range-free", "Services in the range of the VIPs", func(f *Facts) {
		f.ServiceCIDRs[0].Spec.CIDRs = []string{"251.0.0.0/16"}
	}},
	{"vip-range-free", "nodes and pods in the range of the VIPs", func(f *Facts) {
		f.Nodes[0].Spec.PodCIDRs = []string{"251.1.0.0/24"}
		f.Nodes[0].Status.Addresses[0].Address = "251.2.0.1"
		f.Services[0].Spec.ClusterIPs = []string{"251.3.0.1"}
	}},
	{"aks-admissions-enforcer", "a namespace that AKS excludes", func(f *Facts) {
		f.Nodes[0].Spec.ProviderID = "azure:///subscriptions/1"
		f.Namespaces[1].Labels["control-plane"] = "true"
	}},
	{"istio-kinds-served", "no kinds of Istio", func(f *Facts) { delete(f.APIs, "networking.istio.io/v1") }},
	{"istio-version", "an old Istio", func(f *Facts) {
		f.Istiods[0].Spec.Template.Spec.Containers[0].Image = "registry:5000/istio/pilot:1.23.4@sha256:0a"
	}},
	{"istio-compatibility", "a compatibility profile of 1.23", func(f *Facts) {
		f.Istiods[0].Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: preferRules, Value: "false"}}
	}},
	{"istio-injector", "no injector", func(f *Facts) {
		f.Webhooks = slices.DeleteFunc(f.Webhooks, func(c admissionv1.MutatingWebhookConfiguration) bool {
			return isInjector(&c)
		})
	}},
	{"istio-revisions", "a revision without an injector", func(f *Facts) {
		f.Namespaces[2].Labels["istio.io/rev"] = "1-20"
	}},
	{"istio-ambient", "an ambient namespace", func(f *Facts) {
		f.Namespaces[2].Labels["istio.io/dataplane-mode"] = "ambient"
	}},
	{"istio-discovery-selectors", "a namespace that istiod ignores", func(f *Facts) {
		f.MeshConfigs[0].Selectors = f.MeshConfigs[0].Selectors[:1]
	}},
	{"istio-acknowledgement", "an istiod that allocates no addresses", func(f *Facts) {
		f.Istiods[0].Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{
			{Name: "PILOT_ENABLE_IP_AUTOALLOCATE", Value: "false"},
		}
	}},
	{"istio-acknowledgement", "an istiod of 1.24", func(f *Facts) {
		f.Istiods[0].Spec.Template.Spec.Containers[0].Image = "docker.io/istio/pilot:1.24.6"
	}},
	{"istio-root-namespace", "another root namespace", func(f *Facts) { f.MeshConfigs[0].RootNamespace = "mesh-config" }},
	{"istio-trust-domain", "another trust domain", func(f *Facts) { f.MeshConfigs[0].TrustDomain = "corp.example" }},
}

var faultsOfPlans = []fault{
	{"install-rights", "a user without rights", func(f *Facts) {
		f.Lacking = []string{"create clusterroles.rbac.authorization.k8s.io"}
	}},
	{"not-installed", "a second installation", func(f *Facts) {
		f.Webhooks = append(f.Webhooks,
			admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "00-redis-tls"}})
	}},
	{"gke-firewall", "a private cluster of GKE", func(f *Facts) {
		f.Nodes[0].Spec.ProviderID = "gce://project/zone/node-1"
	}},
}

var faultsOfInstallations = []fault{
	{"installed", "no installation", func(f *Facts) { f.Release = Release{} }},
	{"installed", "two installations", func(f *Facts) {
		second := *f.Release.Deployments[0].DeepCopy()
		second.Namespace = "redis-tls-old"
		f.Release.Deployments = append(f.Release.Deployments, second)
	}},
	{"replicas-ready", "one replica is not ready", func(f *Facts) { f.Release.Deployments[0].Status.ReadyReplicas = 1 }},
	{"replicas-ready", "no replica is wanted", func(f *Facts) {
		f.Release.Deployments[0].Spec.Replicas = ptr.To[int32](0)
	}},
	{"replicas-version", "a newer command line", func(f *Facts) { f.Version = "v0.3.0" }},
	{"configuration-valid", "a wrong value in the ConfigMap", func(f *Facts) {
		f.ConfigError = errors.New("policy.mode: Unsupported value: \"audit\"")
	}},
	{"configuration-valid", "no ConfigMap", func(f *Facts) { f.Release.ConfigMap = nil }},
	{"configuration-current", "an edited ConfigMap", func(f *Facts) {
		f.Release.ConfigMap.Data[configKey] = strings.Replace(f.Release.ConfigMap.Data[configKey],
			"trustDomain: cluster.local", "trustDomain: example.org", 1)
	}},
	{"webhook-registered", "no webhook configuration", func(f *Facts) {
		f.Webhooks = slices.DeleteFunc(f.Webhooks, func(c admissionv1.MutatingWebhookConfiguration) bool {
			return c.Name == "00-redis-tls"
		})
	}},
	{"webhook-registered", "a changed webhook configuration", func(f *Facts) {
		w := f.webhook().Webhooks
		w[0].ClientConfig.Service.Name, w[0].MatchConditions = "other", nil
		w[0].Rules, w[0].ReinvocationPolicy = nil, ptr.To(admissionv1.NeverReinvocationPolicy)
		f.webhook().Webhooks = w[:1]
	}},
	{"webhook-fails-closed", "a webhook that may be ignored", func(f *Facts) {
		f.webhook().Webhooks[1].FailurePolicy = ptr.To(admissionv1.Ignore)
	}},
	{"webhook-before-injector", "an injector that sorts first", func(f *Facts) {
		f.Webhooks[2].Name = "00-a-istio-sidecar-injector"
	}},
	{"webhook-endpoints", "one endpoint is not ready", func(f *Facts) {
		f.Release.Endpoints[0].Endpoints[0].Conditions.Ready = ptr.To(false)
	}},
	{"webhook-endpoints", "no Service", func(f *Facts) {
		f.Services = slices.DeleteFunc(f.Services, func(s corev1.Service) bool { return s.Name == name })
	}},
	{"webhook-ca-bundle", "an emptied caBundle", func(f *Facts) { f.webhook().Webhooks[0].ClientConfig.CABundle = nil }},
	{"guard-policy", "no guard", func(f *Facts) { f.remove(guardPolicy, true, true) }},
	{"guard-policy", "a guard that only warns", func(f *Facts) {
		f.binding(guardPolicy).Spec.ValidationActions = []admissionv1.ValidationAction{admissionv1.Warn}
	}},
	{"guard-policy", "a guard for some namespaces", func(f *Facts) {
		f.binding(guardPolicy).Spec.MatchResources = &admissionv1.MatchResources{}
	}},
	{"guard-policy", "a guard that may be ignored", func(f *Facts) {
		p := f.policy(guardPolicy)
		p.Spec.FailurePolicy, p.Spec.Validations = ptr.To(admissionv1.Ignore), nil
	}},
	{"first-use-policy", "no binding of the gate's policy", func(f *Facts) { f.remove(firstUsePolicy, false, true) }},
	{"own-objects-policy", "no limit to own objects", func(f *Facts) { f.remove(ownPolicy, true, true) }},
	{"protect-objects-policy", "no protection of objects", func(f *Facts) { f.remove(protectPolicy, true, true) }},
	{"account-rights", "a role without a right", func(f *Facts) {
		f.Release.ClusterRole.Rules = slices.Delete(f.Release.ClusterRole.Rules, 2, 3)
	}},
	{"account-rights", "no role and no bindings", func(f *Facts) {
		f.Release.Role, f.Release.ClusterRole, f.Release.RoleBinding = nil, nil, nil
		f.Release.ClusterRoleBinding.Subjects[0].Namespace = "other"
	}},
	{"leader", "a Lease that is not renewed", func(f *Facts) {
		f.Release.Lease.Spec.RenewTime.Time = noon.Add(-10 * time.Minute)
	}},
	{"leader", "no holder of the Lease", func(f *Facts) { f.Release.Lease.Spec.HolderIdentity = ptr.To("") }},
	{"leader", "no Lease", func(f *Facts) { f.Release.Lease = nil }},
	{"metrics", "an untrusted certificate", func(f *Facts) {
		f.Release.Metrics[f.Release.Pods[0].Name] += "redis_tls_webhook_certificate_trusted 0\n"
	}},
	{"metrics", "a replica that does not answer", func(f *Facts) {
		pod := f.Release.Pods[1].Name
		delete(f.Release.Metrics, pod)
		f.Release.MetricsErrors = map[string]string{pod: "connection refused"}
	}},
	{"metrics", "metrics of another server", func(f *Facts) { f.Release.Metrics[f.Release.Pods[1].Name] = "up 1\n" }},
}

func (f *Facts) policy(name string) *admissionv1.ValidatingAdmissionPolicy {
	for i := range f.Policies {
		if f.Policies[i].Name == name {
			return &f.Policies[i]
		}
	}
	return nil
}

func (f *Facts) binding(name string) *admissionv1.ValidatingAdmissionPolicyBinding {
	for i := range f.Bindings {
		if f.Bindings[i].Name == name {
			return &f.Bindings[i]
		}
	}
	return nil
}

// remove removes a policy, its binding or both.
func (f *Facts) remove(name string, policy, binding bool) {
	f.Policies = slices.DeleteFunc(f.Policies, func(p admissionv1.ValidatingAdmissionPolicy) bool {
		return policy && p.Name == name
	})
	f.Bindings = slices.DeleteFunc(f.Bindings, func(b admissionv1.ValidatingAdmissionPolicyBinding) bool {
		return binding && b.Name == name
	})
}

var (
	whenPlanned   = []Category{Kubernetes, Istio, Install}
	whenInstalled = []Category{Kubernetes, Istio, ControlPlane}
)

// TestEachFaultFailsExactlyItsCheck has the text that users read for each fault.
func TestEachFaultFailsExactlyItsCheck(t *testing.T) {
	c := catalog.Open(t)
	serving := []fault{
		{"webhook-ca-bundle", "an expired CA", func(f *Facts) {
			old := newAuthority(t, "old", noon.AddDate(0, 0, -1))
			for i := range f.webhook().Webhooks {
				f.webhook().Webhooks[i].ClientConfig.CABundle = old.pem
			}
		}},
		{"serving-certificate", "another CA in the caBundle", func(f *Facts) {
			f.webhook().Webhooks[0].ClientConfig.CABundle = newAuthority(t, "other", noon.AddDate(1, 0, 0)).pem
		}},
		{"serving-certificate", "an expired certificate", func(f *Facts) { f.Now = noon.AddDate(0, 3, 0); f.renewed() }},
		{"serving-certificate", "the key of another certificate", func(f *Facts) {
			_, _, key := servingPair(t)
			f.Release.Secret.Data["tls.key"] = key
		}},
		{"serving-certificate", "no Secret", func(f *Facts) { f.Release.Secret = nil }},
	}
	tested := map[string]bool{}
	run := func(faults []fault, facts func() *Facts, categories []Category) {
		for _, test := range faults {
			t.Run(test.id+"/"+test.name, func(t *testing.T) {
				f := facts()
				test.edit(f)
				report := Run(f, nil, Selection{Categories: categories})
				wantOnly(t, report, test.id)
				tested[test.id] = true
				c.Add(test.name, printed(t, report, true))
			})
		}
	}
	installed := func() *Facts { return healthy(t) }
	run(faultsOfClusters, installed, whenInstalled)
	run(faultsOfPlans, planned, whenPlanned)
	run(slices.Concat(faultsOfInstallations, serving), installed, whenInstalled)
	for _, check := range Checks() {
		if !isOfWorkload(check.Category) && !tested[check.ID] {
			t.Errorf("no fault fails the check %s", check.ID)
		}
	}
}

// renewed renews the Lease now.
func (f *Facts) renewed() { f.Release.Lease.Spec.RenewTime.Time = f.Now }

// wantOnly requires that exactly this check failed.
func wantOnly(t *testing.T, report *Report, id string) {
	t.Helper()
	var failures []string
	for _, g := range report.Groups {
		for _, o := range g.Checks {
			if o.Status == Failed {
				failures = append(failures, o.ID)
				if report.Success != (o.Severity == Warning) {
					t.Errorf("success is %t with a failed check of severity %s", report.Success, o.Severity)
				}
			}
		}
	}
	if !slices.Equal(failures, []string{id}) {
		t.Errorf("failed: %q, want only %s", failures, id)
	}
}

func printed(t *testing.T, report *Report, short bool) string {
	t.Helper()
	var b strings.Builder
	if err := report.Print(&b, term.Painter{}, short); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// TestHealthyClusterPassesEveryCheck has the whole output before and after an installation.
func TestHealthyClusterPassesEveryCheck(t *testing.T) {
	c := catalog.Open(t)
	for name, test := range map[string]struct {
		facts      *Facts
		categories []Category
	}{
		"before an installation": {planned(), whenPlanned},
		"an installation":        {healthy(t), whenInstalled},
	} {
		t.Run(name, func(t *testing.T) {
			report := Run(test.facts, nil, Selection{Categories: test.categories})
			if s := report.Summary; s.Errors+s.Warnings+s.Skipped > 0 || !report.Success {
				t.Errorf("summary: %s", s)
			}
			c.Add(name, printed(t, report, false))
		})
	}
}

// TestUnreadFactsSkipTheirChecks proves that a check never passes on facts that could not be read.
func TestUnreadFactsSkipTheirChecks(t *testing.T) {
	c := catalog.Open(t)
	for _, check := range Checks() {
		if isOfWorkload(check.Category) {
			continue
		}
		if len(check.Needs) == 0 {
			t.Errorf("%s needs nothing", check.ID)
		}
		for _, source := range check.Needs {
			f := healthy(t)
			if check.Category == Install {
				f = planned()
			}
			f.unread[source] = "not allowed to read " + string(source)
			report := Run(f, nil, Selection{Categories: []Category{check.Category}, Only: []string{check.ID}})
			if o := report.Groups[0].Checks[0]; o.Status != Skipped || !strings.Contains(o.Detail, string(source)) {
				t.Errorf("%s without %s: %s, %s", check.ID, source, o.Status, o.Detail)
			}
		}
	}
	f := healthy(t)
	f.unread[sourceSecret] = "not allowed to read " + string(sourceSecret)
	c.Add("a user who may not read Secrets", printed(t, Run(f, nil, Selection{Categories: whenInstalled}), true))
}

// TestChecksAfterAFailedOneAreSkipped proves that one cause is one error.
func TestChecksAfterAFailedOneAreSkipped(t *testing.T) {
	f := healthy(t)
	f.Release = Release{}
	report := Run(f, nil, Selection{Categories: []Category{ControlPlane}})
	if report.Summary.Errors != 1 || report.Summary.Passed != 0 {
		t.Errorf("summary: %s", report.Summary)
	}
	position := map[string]int{}
	for i, check := range Checks() {
		for _, id := range check.After {
			if _, before := position[id]; !before {
				t.Errorf("%s comes before %s, which it needs", check.ID, id)
			}
		}
		if _, twice := position[check.ID]; twice {
			t.Errorf("two checks have the id %s", check.ID)
		}
		position[check.ID] = i
	}
}

func TestSelection(t *testing.T) {
	ids := func(s Selection) (ids []string) {
		s.Categories = whenInstalled
		for _, g := range Run(healthy(t), nil, s).Groups {
			for _, o := range g.Checks {
				ids = append(ids, o.ID)
			}
		}
		return ids
	}
	all := ids(Selection{})
	if got := ids(Selection{Only: []string{"leader"}}); !slices.Equal(got, []string{"leader"}) {
		t.Errorf("--only leader: %q", got)
	}
	if got := ids(Selection{Skip: []string{"leader"}}); len(got) != len(all)-1 || slices.Contains(got, "leader") {
		t.Errorf("--skip leader: %q", got)
	}
}

func TestIDsOfFlagsMustExist(t *testing.T) {
	c := catalog.Open(t)
	if err := ParseIDs("only", []string{"leader"}); err != nil {
		t.Error(err)
	}
	for name, id := range map[string]string{"a misspelt id": "leder", "another word": "everything"} {
		err := ParseIDs("skip", []string{"leader", id})
		if err == nil {
			t.Fatalf("%q was accepted", id)
		}
		c.Add(name, err.Error())
	}
}

// TestTheOldestVersionsAreThoseOfTheChart keeps the checks and the chart together.
func TestTheOldestVersionsAreThoseOfTheChart(t *testing.T) {
	var chart struct {
		KubeVersion string `json:"kubeVersion"`
	}
	text, err := os.ReadFile("../../../../charts/redis-tls/Chart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &chart); err != nil {
		t.Fatal(err)
	}
	if want := ">=" + oldestKubernetes.String() + "-0"; chart.KubeVersion != want {
		t.Errorf("kubeVersion is %s, want %s", chart.KubeVersion, want)
	}
	validation, err := os.ReadFile("../../../../charts/redis-tls/templates/validation.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(validation), `semverCompare ">=`+oldestIstio.String()+`"`) {
		t.Errorf("the chart requires another version of Istio than %s", oldestIstio)
	}
}

// TestOtherValuesOfTheChartPass proves that no check depends on the default values.
func TestOtherValuesOfTheChartPass(t *testing.T) {
	for name, values := range map[string]map[string]any{
		"policy.mode warn":  {"policy": map[string]any{"mode": "warn"}},
		"no gate":           {"firstUse": map[string]any{"gate": false}},
		"a trial namespace": trialOfShop,
		"a provided certificate with a bundle": {"certs": map[string]any{
			"mode": "provided", "caBundle": "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
			"provided": map[string]any{"secretName": "mine"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := healthy(t)
			secret := f.Release.Secret
			f.Release.Deployments, f.Policies, f.Bindings = nil, nil, nil
			status := healthy(t).Release.Deployments[0].Status
			for _, object := range chart(t, values) {
				if _, configuration := object.(*admissionv1.MutatingWebhookConfiguration); !configuration {
					f.install(object)
				}
			}
			f.Release.Secret, f.Release.Deployments[0].Status = secret, status
			for i := range f.Release.Pods {
				f.Release.Pods[i].Annotations = f.Release.Deployments[0].Spec.Template.Annotations
			}
			cfg, err := config.Parse([]byte(f.Release.ConfigMap.Data[configKey]), false)
			if err != nil {
				t.Fatal(err)
			}
			f.Config = cfg
			if report := Run(f, nil, Selection{Categories: whenInstalled}); !report.Success || report.Summary.Warnings > 0 {
				t.Error(printed(t, report, true))
			}
		})
	}
}

// TestWaitEndsWithTheFirstSuccess proves that failed checks are repeated until the deadline.
func TestWaitEndsWithTheFirstSuccess(t *testing.T) {
	rounds := 0
	round := func(success int) func() (*Report, error) {
		return func() (*Report, error) {
			rounds++
			r := newReport()
			r.Success = rounds == success
			return r, nil
		}
	}
	for _, test := range []struct {
		name          string
		limit         time.Duration
		success, want int
	}{
		{"the third round passes", time.Minute, 3, 3},
		{"no time to wait", 0, 3, 1},
	} {
		rounds = 0
		report, err := Wait(t.Context(), test.limit, time.Millisecond, ignoring(round(test.success)))
		if err != nil || rounds != test.want || report.Success != (test.want == test.success) {
			t.Errorf("%s: %d rounds, success %t, %v", test.name, rounds, report.Success, err)
		}
	}
}

func ignoring(round func() (*Report, error)) func(context.Context) (*Report, error) {
	return func(context.Context) (*Report, error) { return round() }
}
