package cluster

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// discoverKinds returns crdWatch.served for a real API server. It sends one GET for each version of a group.
func discoverKinds(client discovery.ServerResourcesInterfaceWithContext, kinds watchedKinds) (
	served func(context.Context) (bool, error),
) {
	wanted := map[string][]string{}
	for resource, kind := range kinds {
		version := kind.GroupVersion().String()
		wanted[version] = append(wanted[version], resource)
	}
	return func(ctx context.Context) (bool, error) {
		for version, resources := range wanted {
			list, err := client.ServerResourcesForGroupVersionWithContext(ctx, version)
			if apierrors.IsNotFound(err) {
				return false, nil
			}
			if err != nil {
				return false, err
			}
			found := map[string]bool{}
			for _, resource := range list.APIResources {
				found[resource.Name] = true
			}
			if slices.ContainsFunc(resources, func(resource string) bool { return !found[resource] }) {
				return false, nil
			}
		}
		return true, nil
	}
}

// restListWatch returns crdWatch.listWatch for a real API server.
func restListWatch(config *rest.Config, httpClient *http.Client, kinds watchedKinds) (
	func(resource string) (toolscache.ListerWatcher, error), error,
) {
	scheme := runtime.NewScheme()
	if err := AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("registering the kinds of Istio and cert-manager: %w", err)
	}
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	codecs := serializer.NewCodecFactory(scheme)
	return func(resource string) (toolscache.ListerWatcher, error) {
		client, err := apiutil.RESTClientForGVK(kinds[resource].GroupVersionKind, false, false, config, codecs, httpClient)
		if err != nil {
			return nil, err
		}
		return toolscache.NewListWatchFromClient(client, resource, metav1.NamespaceAll, fields.Everything()), nil
	}, nil
}
