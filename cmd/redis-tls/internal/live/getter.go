package live

import (
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// getter resolves names as the flags do, but keeps what it discovers in memory. The getter of the flags writes a cache
// below the user's home directory.
type getter struct {
	genericclioptions.RESTClientGetter
	rest      *rest.Config
	discovery discovery.CachedDiscoveryInterface
}

func newGetter(flags genericclioptions.RESTClientGetter, restConfig *rest.Config) (*getter, error) {
	client, err := discovery.NewDiscoveryClientForConfig(restConfig)
	if err != nil {
		return nil, err
	}
	return &getter{RESTClientGetter: flags, rest: restConfig, discovery: memory.NewMemCacheClient(client)}, nil
}

// ToRESTConfig implements RESTClientGetter.
func (g *getter) ToRESTConfig() (*rest.Config, error) { return rest.CopyConfig(g.rest), nil }

// ToDiscoveryClient implements RESTClientGetter.
func (g *getter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	return g.discovery, nil
}

// ToRESTMapper implements RESTClientGetter, with the short names of kubectl.
func (g *getter) ToRESTMapper() (meta.RESTMapper, error) {
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(g.discovery)
	return restmapper.NewShortcutExpander(mapper, g.discovery, nil), nil
}
