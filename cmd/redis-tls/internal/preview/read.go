package preview

import (
	"strings"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// read adds the objects that decide how the cluster admits pods to the view.
func (p *preview) read() {
	v := p.view
	for _, o := range p.objects {
		switch err := v.add(o); {
		case err == nil:
		case strings.HasSuffix(o.group(), ".istio.io"): // it may be of a later version of Istio
			p.warn(o, ReasonInvalidManifest, nil, "cannot be read, so the pods are not checked against it: "+err.Error())
		default:
			p.problem(o, nil, fieldIn(err), ReasonInvalidManifest, err.Error())
		}
	}
	sorted(v.services)
	sorted(v.entries)
	sorted(v.rules)
	sorted(v.routes)
	sorted(v.sidecars)
	sorted(v.peers)
	sorted(v.certificates)
}

// add adds the object, if it is of a kind that decisions read. All versions of Istio's kinds have the same fields.
func (v *offline) add(o object) error {
	switch o.group() + "/" + o.Kind {
	case "/Service":
		return appendTo(&v.services, o)
	case "networking.istio.io/ServiceEntry":
		return appendTo(&v.entries, o)
	case "networking.istio.io/DestinationRule":
		return appendTo(&v.rules, o)
	case "networking.istio.io/VirtualService":
		return appendTo(&v.routes, o)
	case "networking.istio.io/Sidecar":
		return appendTo(&v.sidecars, o)
	case "security.istio.io/PeerAuthentication":
		return appendTo(&v.peers, o)
	case "cert-manager.io/Certificate":
		if err := appendTo(&v.certificates, o); err != nil {
			return err
		}
		// As if cert-manager had issued it.
		v.certificates[len(v.certificates)-1].Status.Conditions = []certmanagerv1.CertificateCondition{{
			Type:   certmanagerv1.CertificateConditionReady,
			Status: cmmeta.ConditionTrue,
		}}
	}
	return nil
}

// appendTo appends the object as one of its Go type.
func appendTo[T metav1.Object](objects *[]T, o object) error {
	typed, err := convert[T](o.value)
	if err != nil {
		return err
	}
	typed.SetNamespace(o.namespace)
	*objects = append(*objects, typed)
	return nil
}
