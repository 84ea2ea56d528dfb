package preview

import (
	"strings"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// read adds the objects that decide how the cluster admits pods to the view.
func (p *preview) read() {
	for _, o := range p.objects {
		switch err := p.add(o); {
		case err == nil:
		case strings.HasSuffix(o.group(), ".istio.io"): // it may be of a later version of Istio
			p.warn(o, ReasonInvalidManifest, nil, "cannot be read, so the pods are not checked against it: "+err.Error())
		default:
			p.problem(o, nil, fieldIn(err), ReasonInvalidManifest, err.Error())
		}
	}
	p.view.Sort()
}

// add adds the object, if it is of a kind that decisions read. All versions of Istio's kinds have the same fields.
func (p *preview) add(o object) error {
	switch o.group() + "/" + o.Kind {
	case "/Service":
		return addTyped[*corev1.Service](p, o)
	case "networking.istio.io/ServiceEntry":
		return addTyped[*networkingv1.ServiceEntry](p, o)
	case "networking.istio.io/DestinationRule":
		return addTyped[*networkingv1.DestinationRule](p, o)
	case "networking.istio.io/VirtualService":
		return addTyped[*networkingv1.VirtualService](p, o)
	case "networking.istio.io/Sidecar":
		return addTyped[*networkingv1.Sidecar](p, o)
	case "security.istio.io/PeerAuthentication":
		return addTyped[*securityv1.PeerAuthentication](p, o)
	case "cert-manager.io/Certificate":
		return addTyped[*certmanagerv1.Certificate](p, o)
	}
	return nil
}

// addTyped adds the object as one of its Go type.
func addTyped[T metav1.Object](p *preview, o object) error {
	typed, err := convert[T](o.value)
	if err != nil {
		return err
	}
	typed.SetNamespace(o.namespace)
	if certificate, ok := any(typed).(*certmanagerv1.Certificate); ok { // as if cert-manager had issued it
		certificate.Status.Conditions = []certmanagerv1.CertificateCondition{{
			Type:   certmanagerv1.CertificateConditionReady,
			Status: cmmeta.ConditionTrue,
		}}
	}
	p.view.Add(typed)
	return nil
}
