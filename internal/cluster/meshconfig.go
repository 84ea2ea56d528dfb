package cluster

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// meshConfigs watches the mesh configurations of Istio. Nothing waits for it: without a right or a ConfigMap, no
// namespace counts as ignored.
type meshConfigs struct {
	informers []toolscache.SharedIndexInformer // one for each ConfigMap, because a watch is limited to one name
	current   atomic.Pointer[[]mesh.Discovery]
	changed   func()
}

// watchMeshConfigs returns the watch of the ConfigMaps that the configuration names.
func watchMeshConfigs(config *rest.Config, httpClient *http.Client, istio config.Istio) (*meshConfigs, error) {
	clientset, err := kubernetes.NewForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("making the client for mesh configurations: %w", err)
	}
	var sources []toolscache.ListerWatcher
	for _, name := range istio.MeshConfigMaps {
		sources = append(sources, toolscache.NewListWatchFromClient(clientset.CoreV1().RESTClient(), "configmaps",
			istio.RootNamespace, fields.OneTermEqualSelector(metav1.ObjectNameField, name)))
	}
	return newMeshConfigs(sources)
}

func newMeshConfigs(sources []toolscache.ListerWatcher) (*meshConfigs, error) {
	m := &meshConfigs{}
	for _, source := range sources {
		informer := toolscache.NewSharedIndexInformer(source, &corev1.ConfigMap{}, 0, toolscache.Indexers{})
		read := func(any) { m.read() }
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: read, UpdateFunc: func(_, _ any) { m.read() }, DeleteFunc: read,
		}); err != nil {
			return nil, fmt.Errorf("watching a mesh configuration: %w", err)
		}
		m.informers = append(m.informers, informer)
	}
	return m, nil
}

// read parses the ConfigMaps. One that cannot be parsed counts as absent, and istiod keeps its former configuration.
func (m *meshConfigs) read() {
	var all []mesh.Discovery
	for _, informer := range m.informers {
		for _, object := range informer.GetStore().List() {
			configMap := object.(*corev1.ConfigMap)
			d := mesh.Discovery{Object: "ConfigMap " + configMap.Namespace + "/" + configMap.Name}
			if err := yaml.Unmarshal([]byte(configMap.Data["mesh"]), &d); err != nil {
				logf.Log.WithName("mesh-configuration").Error(err, "parsing "+d.Object)
				continue
			}
			all = append(all, d)
		}
	}
	if before := m.current.Swap(&all); before == nil || !equality.Semantic.DeepEqual(*before, all) {
		m.changed()
	}
}

// ignoredBy returns the selectors by which no istiod reads a namespace; see mesh.IgnoredBy.
func (m *meshConfigs) ignoredBy(namespace *corev1.Namespace) string {
	all := m.current.Load()
	if all == nil || namespace == nil {
		return ""
	}
	return mesh.IgnoredBy(*all, namespace.Labels)
}

// NeedLeaderElection returns false: every replica watches, because every replica answers admissions.
func (m *meshConfigs) NeedLeaderElection() bool { return false }

// Start runs the informers until the context ends.
func (m *meshConfigs) Start(ctx context.Context) error {
	var running sync.WaitGroup
	for _, informer := range m.informers {
		running.Go(func() { informer.RunWithContext(ctx) })
	}
	running.Wait()
	return nil
}
