package inject

import (
	"strings"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// mounted returns the sidecar's volumes, from Istio's annotation.
func mounted(pod *corev1.Pod) string { return pod.Annotations["sidecar.istio.io/userVolume"] }

func TestCertificateOfAnIssuerIsForThePodsServiceAccount(t *testing.T) {
	w := newWorld()
	w.snap.CertManager = mesh.Present
	names := map[string]bool{}
	for given, want := range map[string]string{"cart": "cart", "stock": "stock", "": "default"} {
		pod := newPod("host", host, "mode", "mutual", "issuer", "redis")
		pod.Spec.ServiceAccountName = given
		d := w.injector().Inject(shop, pod)
		check(t, d, origination.OutcomeInjected, origination.ReasonInjected)
		o := d.Originations[0]
		if o.TLS.ServiceAccount != want {
			t.Errorf("service account %q, want %q", o.TLS.ServiceAccount, want)
		}
		admitted := admit(t, pod, d)
		if !strings.Contains(mounted(admitted), `"secretName":"`+o.CertificateName()+`"`) {
			t.Errorf("mounted is %s, want the Secret %s", mounted(admitted), o.CertificateName())
		}
		names[o.CertificateName()] = true
		if again := w.injector().Inject(shop, admitted); len(again.Operations) > 0 {
			t.Errorf("a second time changes %v", again.Operations)
		}
	}
	if len(names) != 3 {
		t.Errorf("three service accounts have the certificates %v", names)
	}
}

func TestSecretOfACertificateIsMountedAndItsFaultsAreWarnings(t *testing.T) {
	w := newWorld()
	w.snap.CertManager = mesh.Present
	ready := certmanagerv1.CertificateStatus{Conditions: []certmanagerv1.CertificateCondition{{
		Type:   "Ready",
		Status: "True",
	}}}
	certificates := func(secret string, status certmanagerv1.CertificateStatus) []*certmanagerv1.Certificate {
		c := &certmanagerv1.Certificate{Spec: certmanagerv1.CertificateSpec{SecretName: secret}, Status: status}
		c.Namespace, c.Name = shop, "client"
		return []*certmanagerv1.Certificate{c}
	}
	for name, test := range map[string]struct {
		exists []*certmanagerv1.Certificate
		secret string
		warned bool
	}{
		"the Certificate is ready":     {certificates("client-tls", ready), "client-tls", false},
		"the Certificate is missing":   {nil, "client", true},
		"the Certificate is not ready": {certificates("client-tls", certmanagerv1.CertificateStatus{}), "client-tls", true},
	} {
		t.Run(name, func(t *testing.T) {
			w.snap.Certificates = test.exists
			pod := newPod("host", host, "mode", "mutual", "certificate", "client")
			d := w.injector().Inject(shop, pod)
			check(t, d, origination.OutcomeInjected, origination.ReasonInjected)
			if got := mounted(admit(t, pod, d)); !strings.Contains(got, `"secretName":"`+test.secret+`"`) {
				t.Errorf("mounted is %s, want the Secret %s", got, test.secret)
			}
			warned := len(d.Warnings) == 1 && strings.Contains(d.Warnings[0], "Certificate shop/client")
			if warned != test.warned || len(d.Warnings) > 1 {
				t.Errorf("warnings %q, want one about the Certificate: %t", d.Warnings, test.warned)
			}
		})
	}
}
