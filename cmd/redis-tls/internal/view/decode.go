package view

import (
	"encoding/json"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Decode returns an object of a manifest as its Go type, or nil if no decision reads its kind. All versions of Istio's
// kinds have the same fields. A Certificate is as if cert-manager had issued it.
func Decode(group, kind string, value map[string]any) (metav1.Object, error) {
	var object metav1.Object
	switch group + "/" + kind {
	case "/Service":
		object = &corev1.Service{}
	case "networking.istio.io/ServiceEntry":
		object = &networkingv1.ServiceEntry{}
	case "networking.istio.io/DestinationRule":
		object = &networkingv1.DestinationRule{}
	case "networking.istio.io/VirtualService":
		object = &networkingv1.VirtualService{}
	case "networking.istio.io/Sidecar":
		object = &networkingv1.Sidecar{}
	case "security.istio.io/PeerAuthentication":
		object = &securityv1.PeerAuthentication{}
	case "cert-manager.io/Certificate":
		object = &certmanagerv1.Certificate{}
	default:
		return nil, nil
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, object); err != nil {
		return nil, err
	}
	if certificate, ok := object.(*certmanagerv1.Certificate); ok {
		certificate.Status.Conditions = []certmanagerv1.CertificateCondition{{
			Type:   certmanagerv1.CertificateConditionReady,
			Status: cmmeta.ConditionTrue,
		}}
	}
	return object, nil
}
