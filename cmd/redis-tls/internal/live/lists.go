package live

import (
	"context"
	"errors"
	"slices"
	"strings"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// kind is a kind of object that is listed.
type kind struct {
	group, resource string
	list            func() client.ObjectList
	// scope is where objects matter for a pod.
	scope scope
}

type scope int

const (
	// own: only those of the pod's namespace matter.
	own scope = iota
	// root: those of the mesh's root namespace matter too.
	root
	// all: those of every namespace matter.
	all
)

var kinds = []kind{
	{"", "pods", func() client.ObjectList { return &corev1.PodList{} }, own},
	{"", "services", func() client.ObjectList { return &corev1.ServiceList{} }, all},
	{networking, "serviceentries", func() client.ObjectList { return &networkingv1.ServiceEntryList{} }, all},
	{networking, "destinationrules", func() client.ObjectList { return &networkingv1.DestinationRuleList{} }, all},
	{networking, "virtualservices", func() client.ObjectList { return &networkingv1.VirtualServiceList{} }, all},
	{networking, "sidecars", func() client.ObjectList { return &networkingv1.SidecarList{} }, root},
	{security, "peerauthentications", func() client.ObjectList { return &securityv1.PeerAuthenticationList{} }, own},
	{certManager, "certificates", func() client.ObjectList { return &certmanagerv1.CertificateList{} }, own},
}

var (
	networking  = networkingv1.SchemeGroupVersion.Group
	security    = securityv1.SchemeGroupVersion.Group
	certManager = certmanagerv1.SchemeGroupVersion.Group
)

// listKind lists the objects of a kind that matter for pods of the namespaces. If the user may not list those of all
// namespaces, it lists namespace by namespace.
func (c *Cluster) listKind(ctx context.Context, k kind, namespaces []string) ([]client.Object, error) {
	if k.scope == all || len(namespaces) == 0 {
		objects, err := c.list(ctx, k, "")
		if err != nil || !c.IsDenied(k.group, k.resource, "") {
			return objects, err
		}
		if k.resource == "services" {
			c.Partial = true
		}
	}
	if k.scope != own {
		namespaces = append(slices.Clone(namespaces), c.Config.Istio.RootNamespace)
		slices.Sort(namespaces)
		namespaces = slices.Compact(namespaces)
	}
	var objects []client.Object
	var errs []error
	for _, namespace := range namespaces {
		listed, err := c.list(ctx, k, namespace)
		objects, errs = append(objects, listed...), append(errs, err)
	}
	return objects, errors.Join(errs...)
}

// list lists the objects of a kind in a namespace, or in all if it is empty.
func (c *Cluster) list(ctx context.Context, k kind, namespace string) ([]client.Object, error) {
	list := k.list()
	if err := c.client.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, c.record.failed(err, Denied{Verb: "list", Group: k.group, Resource: k.resource, Namespace: namespace})
	}
	var objects []client.Object
	err := meta.EachListItem(list, func(item runtime.Object) error {
		objects = append(objects, item.(client.Object))
		return nil
	})
	return objects, err
}

// injected returns the pods that the webhook marked, which the controller reads.
func injected(pods []*corev1.Pod) []*corev1.Pod {
	var marked []*corev1.Pod
	for _, pod := range pods {
		if pod.Labels[origination.LabelInjected] == "true" {
			marked = append(marked, pod)
		}
	}
	return marked
}

func byName[T client.Object](a, b T) int { return strings.Compare(a.GetName(), b.GetName()) }
