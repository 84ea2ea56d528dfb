package check

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader"
	"helm.sh/helm/v4/pkg/engine"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// chart returns the objects of the chart with these values, as Helm renders them into namespace redis-tls.
func chart(t *testing.T, values map[string]any) (objects []runtime.Object) {
	t.Helper()
	loaded, err := loader.LoadDir("../../../../charts/redis-tls")
	if err != nil {
		t.Fatal(err)
	}
	options := common.ReleaseOptions{Name: "redis-tls", Namespace: plannedNamespace, Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(loaded, values, options, nil)
	if err != nil {
		t.Fatal(err)
	}
	files, err := engine.Render(loaded, all)
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range files {
		if !strings.HasSuffix(path, ".yaml") || strings.Contains(content, "helm.sh/hook:") {
			continue
		}
		for _, document := range strings.Split(content, "\n---\n") {
			if object, _, err := scheme.Codecs.UniversalDeserializer().Decode([]byte(document), nil, nil); err == nil {
				objects = append(objects, object)
			}
		}
	}
	return objects
}

// planned are the facts of a cluster with Istio and without redis-tls.
func planned() *Facts {
	object := func(namespace, name string, labels map[string]string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}
	}
	return &Facts{
		Now: noon, Version: "v0.2.0", Config: config.Default(), Kubernetes: "v1.36.3",
		APIs: map[string]bool{"networking.istio.io/v1": true, "security.istio.io/v1": true},
		Nodes: []corev1.Node{{
			ObjectMeta: object("", "node-1", nil),
			Spec:       corev1.NodeSpec{PodCIDRs: []string{"10.0.1.0/24"}},
			Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP,
				Address: "192.168.0.7"}}},
		}},
		Namespaces: []corev1.Namespace{
			{ObjectMeta: object("", "kube-system", nil)},
			{ObjectMeta: object("", "shop", map[string]string{"istio-injection": "enabled"})},
			{ObjectMeta: object("", "billing", map[string]string{"istio.io/rev": "prod", "redis-tls/injection": "enabled"})},
		},
		Services: []corev1.Service{{
			ObjectMeta: object("default", "kubernetes", nil), Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.1"}},
		}},
		ServiceCIDRs: []networkingv1.ServiceCIDR{{
			ObjectMeta: object("", "kubernetes", nil), Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16"}},
		}},
		Webhooks: []admissionv1.MutatingWebhookConfiguration{
			injector("istio-revision-tag-prod", "prod", map[string]string{"istio.io/rev": "default", "istio.io/tag": "prod"}),
			injector("istio-sidecar-injector", "", map[string]string{"istio.io/rev": "default"}),
		},
		Istiods: []appsv1.Deployment{{
			ObjectMeta: object("istio-system", "istiod", map[string]string{"app": "istiod"}),
			Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "discovery", Image: "docker.io/istio/pilot:1.31.1-distroless",
			}}}}},
		}},
		MeshConfigs: []MeshConfig{{
			Discovery: mesh.Discovery{Object: "ConfigMap istio-system/istio", Selectors: []metav1.LabelSelector{
				{MatchLabels: map[string]string{"istio-injection": "enabled"}},
				{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "istio.io/rev",
					Operator: metav1.LabelSelectorOpExists}}},
			}},
			Namespace: "istio-system", TrustDomain: "cluster.local",
		}},
		unread: map[Source]string{},
	}
}

// injector returns a configuration of Istio for a revision or a tag, or that of istio-injection=enabled.
func injector(name, revision string, labels map[string]string) admissionv1.MutatingWebhookConfiguration {
	requirement := metav1.LabelSelectorRequirement{
		Key: "istio-injection", Operator: metav1.LabelSelectorOpIn, Values: []string{"enabled"},
	}
	if revision != "" {
		requirement.Key, requirement.Values = "istio.io/rev", []string{revision}
	}
	return admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Webhooks: []admissionv1.MutatingWebhook{{
			Name:              "namespace.sidecar-injector.istio.io",
			NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{requirement}},
		}},
	}
}

// healthy are the facts of a cluster with an installation of the chart as it is now, without a fault.
func healthy(t *testing.T) *Facts {
	t.Helper()
	return healthyWith(t, nil)
}

// healthyWith is healthy with other values of the chart.
func healthyWith(t *testing.T, values map[string]any) *Facts {
	t.Helper()
	f := planned()
	ca, leaf, key := servingPair(t)
	for _, object := range chart(t, values) {
		f.install(object)
	}
	for i := range f.webhook().Webhooks {
		f.webhook().Webhooks[i].ClientConfig.CABundle = ca
	}
	r := &f.Release
	r.Secret.Data = map[string][]byte{"ca.crt": ca, "tls.crt": leaf, "tls.key": key}
	d := r.Deployment()
	d.Status = appsv1.DeploymentStatus{ReadyReplicas: 2, UpdatedReplicas: 2}
	r.Metrics = map[string]string{}
	slice := discoveryv1.EndpointSlice{}
	for i := range 2 {
		p := corev1.Pod{ObjectMeta: *d.Spec.Template.ObjectMeta.DeepCopy()}
		p.Namespace, p.Name, p.Status.Phase = d.Namespace, fmt.Sprintf("%s-%d", d.Name, i), corev1.PodRunning
		r.Pods = append(r.Pods, p)
		r.Metrics[p.Name] = "# HELP\nredis_tls_build_info{version=\"v0.2.0\"} 1\nredis_tls_webhook_certificate_trusted 1\n"
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)},
		})
	}
	r.Endpoints = []discoveryv1.EndpointSlice{slice}
	r.Lease = &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{
		HolderIdentity:       ptr.To(r.Pods[0].Name + "_6f1c"),
		LeaseDurationSeconds: ptr.To[int32](15),
		RenewTime:            &metav1.MicroTime{Time: noon.Add(-2 * time.Second)},
	}}
	f.Config, f.ConfigError = annotation.ParseConfig([]byte(r.ConfigMap.Data[configKey]))
	f.Webhooks = inCallOrder(f.Webhooks)
	return f
}

// install adds an object of the chart to the facts.
func (f *Facts) install(object runtime.Object) {
	r := &f.Release
	switch o := object.(type) {
	case *appsv1.Deployment:
		r.Deployments = append(r.Deployments, *o)
	case *corev1.ConfigMap:
		if o.Name == name {
			r.ConfigMap = o
		}
	case *corev1.Secret:
		r.Secret = o
	case *corev1.Service:
		f.Services = append(f.Services, *o)
	case *rbacv1.Role:
		r.Role = o
	case *rbacv1.RoleBinding:
		r.RoleBinding = o
	case *rbacv1.ClusterRole:
		r.ClusterRole = o
	case *rbacv1.ClusterRoleBinding:
		r.ClusterRoleBinding = o
	case *admissionv1.MutatingWebhookConfiguration:
		f.Webhooks = append(f.Webhooks, *o)
	case *admissionv1.ValidatingAdmissionPolicy:
		f.Policies = append(f.Policies, *o)
	case *admissionv1.ValidatingAdmissionPolicyBinding:
		f.Bindings = append(f.Bindings, *o)
	}
}

// authority is a CA for tests.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority(t *testing.T, name string, until time.Time) *authority {
	t.Helper()
	a := &authority{}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: noon.AddDate(-1, 0, 0), NotAfter: until, KeyUsage: x509.KeyUsageCertSign,
	}
	a.certificate, a.key, a.pem = sign(t, template, nil)
	return a
}

// sign returns a certificate of the template by the authority, or by itself.
func sign(t *testing.T, template *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	parent, parentKey := template, key
	if by != nil {
		parent, parentKey = by.certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// servingPair returns a CA, a serving certificate of the webhook and its key.
func servingPair(t *testing.T) (ca, leaf, key []byte) {
	t.Helper()
	a := newAuthority(t, "redis-tls CA", noon.AddDate(10, 0, 0))
	_, private, leaf := sign(t, &x509.Certificate{
		DNSNames: []string{"redis-tls-webhook.redis-tls.svc"}, NotBefore: noon.AddDate(0, -1, 0), NotAfter: noon.AddDate(0,
			2, 0),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a)
	return a.pem, leaf, keyPEM(t, private)
}
