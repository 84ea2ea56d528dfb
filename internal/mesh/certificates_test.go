package mesh_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/test/catalog"
)

// signed requests a certificate of an issuer of the namespace for service account cart.
func signed(o *origination.Origination) {
	o.TLS.Mode, o.TLS.ServiceAccount = origination.ModeMutual, "cart"
	o.TLS.Issuer = origination.Issuer{Kind: "Issuer", Group: "cert-manager.io", Name: "redis"}
	o.TLS.ClientSecret = o.CertificateName()
}

// userCertificate requests the unmanaged Certificate "client", whose Secret client-tls the pod mounts.
func userCertificate(o *origination.Origination) {
	o.TLS.Mode, o.TLS.Certificate, o.TLS.ClientSecret = origination.ModeMutual, "client", "client-tls"
}

// certificate returns the Certificate of the origination, a day old, Ready.
func certificate(o origination.Origination, edits ...func(*certmanagerv1.Certificate)) *certmanagerv1.Certificate {
	c := &certmanagerv1.Certificate{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:         "shop",
			Name:              "client",
			CreationTimestamp: metav1.NewTime(day.Add(-24 * time.Hour)),
		},
		Spec: certmanagerv1.CertificateSpec{SecretName: o.TLS.ClientSecret},
		Status: certmanagerv1.CertificateStatus{
			Conditions: []certmanagerv1.CertificateCondition{
				{Type: "Issuing", Status: cmmeta.ConditionFalse},
				{Type: "Ready", Status: cmmeta.ConditionTrue},
			},
			NotAfter:    &metav1.Time{Time: day.Add(20 * 24 * time.Hour)},
			RenewalTime: &metav1.Time{Time: day.Add(10 * 24 * time.Hour)},
		},
	}
	if o.TLS.Certificate == "" {
		c.Name, c.Labels = o.CertificateName(), map[string]string{"app.kubernetes.io/managed-by": "redis-tls"}
	}
	for _, edit := range edits {
		edit(c)
	}
	return c
}

func TestCertificateWarning(t *testing.T) {
	messages := catalog.Open(t)
	unready := func(c *certmanagerv1.Certificate) {
		c.Status = certmanagerv1.CertificateStatus{Conditions: []certmanagerv1.CertificateCondition{
			{Type: "Ready", Status: cmmeta.ConditionFalse, Reason: "DoesNotExist", Message: "no issuer \"redis\""}}}
	}
	silent := func(c *certmanagerv1.Certificate) { c.Status = certmanagerv1.CertificateStatus{} }
	young := func(c *certmanagerv1.Certificate) { c.CreationTimestamp = metav1.NewTime(day.Add(-20 * time.Second)) }
	with := func(usages ...certmanagerv1.KeyUsage) func(*certmanagerv1.Certificate) {
		return func(c *certmanagerv1.Certificate) { c.Spec.Usages = usages }
	}
	unlabelled := func(c *certmanagerv1.Certificate) { c.Labels = nil }
	const unmanaged, managed = "metadata.annotations[redis-tls/certificate]", "metadata.annotations[redis-tls/issuer]"
	for _, test := range []struct {
		name   string
		of     func(*origination.Origination)
		there  bool
		edits  []func(*certmanagerv1.Certificate)
		now    time.Time
		want   string // the path
		ending time.Duration
	}{
		{
			name:  "no client certificate",
			of:    func(*origination.Origination) {},
			there: true,
			edits: []func(*certmanagerv1.Certificate){unready},
		},
		{
			name:   "the Certificate is fine",
			of:     userCertificate,
			there:  true,
			ending: 15 * 24 * time.Hour,
		},
		{
			name:   "the managed Certificate is fine",
			of:     signed,
			there:  true,
			ending: 15 * 24 * time.Hour,
		},
		{
			name: "the Certificate is missing",
			of:   userCertificate,
			want: unmanaged,
		},
		{
			name: "the managed one is missing, and the controller creates it",
			of:   signed,
		},
		{
			name:  "an unmanaged one has the managed name, which the controller reports",
			of:    signed,
			there: true,
			edits: []func(*certmanagerv1.Certificate){unlabelled, unready},
		},
		{
			name:  "the Certificate has another Secret",
			of:    userCertificate,
			there: true,
			edits: []func(*certmanagerv1.Certificate){func(c *certmanagerv1.Certificate) { c.Spec.SecretName = "other" }},
			want:  unmanaged,
		},
		{
			name:  "the Certificate is not Ready",
			of:    userCertificate,
			there: true,
			edits: []func(*certmanagerv1.Certificate){unready, young},
			want:  unmanaged,
		},
		{
			name:   "the Certificate is for servers only",
			of:     userCertificate,
			there:  true,
			edits:  []func(*certmanagerv1.Certificate){with("digital signature", "server auth")},
			want:   unmanaged,
			ending: 15 * 24 * time.Hour,
		},
		{
			name:  "the Certificate is for servers only, and its end is unknown",
			of:    userCertificate,
			there: true,
			edits: []func(*certmanagerv1.Certificate){
				with("server auth"), func(c *certmanagerv1.Certificate) { c.Status.NotAfter = nil },
			},
			want: unmanaged,
		},
		{
			name:   "the Certificate is for servers and clients",
			of:     userCertificate,
			there:  true,
			edits:  []func(*certmanagerv1.Certificate){with("server auth", "client auth")},
			ending: 15 * 24 * time.Hour,
		},
		{
			name:   "the Certificate has no extended usages",
			of:     userCertificate,
			there:  true,
			edits:  []func(*certmanagerv1.Certificate){with("digital signature", "key encipherment")},
			ending: 15 * 24 * time.Hour,
		},
		{
			name:  "the managed one is not Ready",
			of:    signed,
			there: true,
			edits: []func(*certmanagerv1.Certificate){unready},
			want:  managed,
		},
		{
			name:   "the managed one is not Ready yet",
			of:     signed,
			there:  true,
			edits:  []func(*certmanagerv1.Certificate){unready, young},
			ending: 40 * time.Second,
		},
		{
			name:  "cert-manager does not run",
			of:    signed,
			there: true,
			edits: []func(*certmanagerv1.Certificate){silent},
			want:  managed,
		},
		{
			name:   "the Certificate is being renewed",
			of:     userCertificate,
			there:  true,
			now:    day.Add(14 * 24 * time.Hour),
			ending: 24 * time.Hour,
		},
		{
			name:  "the Certificate is overdue for renewal",
			of:    userCertificate,
			there: true,
			now:   day.Add(15 * 24 * time.Hour),
			want:  unmanaged,
		},
		{
			name:  "no renewal is planned, on its last day",
			of:    userCertificate,
			there: true,
			edits: []func(*certmanagerv1.Certificate){func(c *certmanagerv1.Certificate) { c.Status.RenewalTime = nil }},
			now:   day.Add(19 * 24 * time.Hour),
			want:  unmanaged,
		},
		{
			name:   "no renewal is planned, before its last day",
			of:     userCertificate,
			there:  true,
			edits:  []func(*certmanagerv1.Certificate){func(c *certmanagerv1.Certificate) { c.Status.RenewalTime = nil }},
			now:    day.Add(18 * 24 * time.Hour),
			ending: 24 * time.Hour,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := redis("redis.example.com", test.of, pinned("240.241.0.9"))
			snap := snapshot()
			snap.CertManager = mesh.Present
			elsewhere := certificate(o, unready)
			elsewhere.Namespace = "other"
			snap.Certificates = []*certmanagerv1.Certificate{elsewhere}
			if test.there {
				snap.Certificates = append(snap.Certificates, certificate(o, test.edits...))
			}
			now := test.now
			if now.IsZero() {
				now = day
			}
			_, name := mesh.CertificateOf(&o)
			warning, again := mesh.CertificateWarning(&o, snap.Certificate(name), snap, now)
			if again != test.ending {
				t.Errorf("to be checked again after %s, want %s", again, test.ending)
			}
			if path, _, _ := strings.Cut(warning, ": "); path != test.want {
				t.Errorf("warning %q, want one at %q", warning, test.want)
			}
			if warning != "" {
				messages.Add(test.name, warning)
			}
		})
	}
}

func TestMissingCertManagerIsRefused(t *testing.T) {
	messages := catalog.Open(t)
	for name, test := range map[string]struct {
		of          func(*origination.Origination)
		certManager mesh.Presence
		want        string
	}{
		"an issuer": {
			of:          signed,
			certManager: mesh.Absent,
			want:        "NoCertManager: metadata.annotations[redis-tls/issuer]",
		},
		"a Certificate": {
			of:          userCertificate,
			certManager: mesh.Absent,
			want:        "NoCertManager: metadata.annotations[redis-tls/certificate]",
		},
		"an issuer, with cert-manager": {
			of:          signed,
			certManager: mesh.Present,
		},
		"an issuer, before the API server has answered": {
			of:          signed,
			certManager: mesh.Unknown,
		},
		"neither of them": {
			of:          func(*origination.Origination) {},
			certManager: mesh.Absent,
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := redis("redis.example.com", test.of, pinned("240.241.0.9"))
			snap := snapshot()
			snap.CertManager = test.certManager
			problems, _ := check(o, nil, snap)
			if got, want := len(objects(snap, claim("cart", "1", 0, o)).Certificates), test.certManager == mesh.Present &&
				o.TLS.Issuer.Name != ""; (got == 1) != want {
				t.Errorf("%d Certificates are desired", got)
			}
			messages.Add(name, texts(problems)...)
			wantProblems(t, problems, test.want)
		})
	}
}

func TestAnUnmanagedCertificateWithAManagedNameIsWarnedAbout(t *testing.T) {
	messages := catalog.Open(t)
	o := redis("redis.example.com", signed)
	snap := snapshot()
	snap.CertManager = mesh.Present
	for managed, want := range map[bool]int{true: 0, false: 1} {
		c := certificate(o)
		if !managed {
			c.Labels = nil
		}
		snap.Certificates = []*certmanagerv1.Certificate{c}
		_, warnings := check(o, nil, snap)
		messages.Add(fmt.Sprintf("managed: %t", managed), warnings...)
		if len(warnings) != want {
			t.Errorf("managed %t: warnings %q", managed, warnings)
		}
	}
}
