package bed

import (
	"context"
	"errors"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// AddRevision installs a further revision of Istio in the mesh, with an istiod and an injector of its own. The returned
// function uninstalls it.
func (b *Bed) AddRevision(ctx context.Context, revision string) (remove func(context.Context) error, err error) {
	f := b.fabric
	f.mu.Lock()
	address, err := f.allocate()
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	device := []string{address.String() + "/32", "dev", f.link()}
	if err := f.ip(append([]string{"addr", "add"}, device...)...); err != nil {
		return nil, err
	}
	istiod, release, err := b.installIstiod(ctx, revision, address, f.loopback.Next())
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: istioNamespace, Name: istiodName(revision)},
		}
		return errors.Join(
			b.Delete(ctx, release),
			client.IgnoreNotFound(b.Client.Delete(ctx, slice)),
			istiod.Stop(10*time.Second),
			f.ip(append([]string{"addr", "del"}, device...)...),
		)
	}, nil
}
