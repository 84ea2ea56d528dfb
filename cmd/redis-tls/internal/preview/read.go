package preview

import (
	"strings"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/view"
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

// add adds the object, if it is of a kind that decisions read.
func (p *preview) add(o object) error {
	typed, err := view.Decode(o.group(), o.Kind, o.value)
	if err != nil || typed == nil {
		return err
	}
	typed.SetNamespace(o.namespace)
	p.view.Add(typed)
	return nil
}
