// Package live reads a real cluster once, with the rights of the user.
//
// [Connect] makes a [Client] from the flags of kubectl. [Read] returns a [Cluster]: the view of an admission, and the
// configuration of the webhook that runs. [Cluster.Find] resolves names such as deploy/cart to a [Workload]. What the
// user may not read is in [Cluster.Denied], and what the API server does not serve in [Cluster.Absent]. Neither is an
// error. The package writes nothing.
package live

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/view"
	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/cluster"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// Client reads an API server with the rights of the user. It has no cache.
type Client struct {
	client.Client
	// Getter resolves names and kinds, as kubectl does. Only Cluster.Find needs it.
	Getter genericclioptions.RESTClientGetter
	// REST is the configuration of the connection.
	REST *rest.Config
	// Namespace is that of the flags, or of the context of the kubeconfig.
	Namespace string
}

// The client's limits. The default of 5 requests per second would take longer than the requests.
const (
	requestsPerSecond = 50
	requestsAtOnce    = 100
)

// ErrNoCluster is the error of [Connect] if neither the flags nor a kubeconfig name a cluster.
var ErrNoCluster = errors.New("no cluster is configured; set --kubeconfig, --server or the variable KUBECONFIG")

// noServer is the address that client-go uses if none is configured (ClusterDefaults of clientcmd).
const noServer = "http://localhost:8080"

// Flags returns kubectl's flags of the connection, without that of the cache on disk, which the client does not have.
func Flags() *genericclioptions.ConfigFlags {
	flags := genericclioptions.NewConfigFlags(true)
	flags.CacheDir = nil
	return flags
}

// Connect returns a client by the flags. It sends no request yet.
func Connect(flags genericclioptions.RESTClientGetter) (*Client, error) {
	namespace, _, err := flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	restConfig, err := flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	raw, err := flags.ToRawKubeConfigLoader().RawConfig()
	if err == nil && len(raw.Clusters) == 0 && restConfig.Host == noServer {
		return nil, ErrNoCluster
	}
	restConfig = rest.CopyConfig(restConfig)
	restConfig.QPS, restConfig.Burst = requestsPerSecond, requestsAtOnce
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	c, err := client.New(restConfig, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("making the client: %w", err)
	}
	names, err := newGetter(flags, restConfig)
	if err != nil {
		return nil, fmt.Errorf("making the discovery client: %w", err)
	}
	return &Client{Client: c, Getter: names, REST: restConfig, Namespace: namespace}, nil
}

// Scheme returns the scheme with the kinds that the package reads.
func Scheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), cluster.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("registering the kinds of Istio and cert-manager: %w", err)
	}
	return scheme, nil
}

// Options say what is read.
type Options struct {
	// Namespaces are those whose pods and objects are read. An empty list means all namespaces.
	Namespaces []string
	// InstallNamespace is the namespace of the webhook, "redis-tls" if it is empty. It is used if the user may not list
	// ConfigMaps of all namespaces, or if several are those of a webhook.
	InstallNamespace string
}

// Cluster is one reading of a cluster. It implements inject.View.
type Cluster struct {
	*view.Memory
	// Config is that of the webhook that runs, or the defaults of the chart; see Install.
	Config  config.Config
	Install Install
	// Pods are those of the namespaces that were read, by namespace, sorted by name.
	Pods map[string][]*corev1.Pod
	// Unresolved are pods whose recorded request is not valid now, by namespace.
	Unresolved map[string][]cluster.Unresolved
	// NotFound are the namespaces of the options that do not exist.
	NotFound []string
	// Partial is set if not all Services were readable, so one that is not in the view may exist.
	Partial bool
	// At is the time of the reading.
	At time.Time

	client *Client
	record record
	owners owners
}

// Read reads the cluster. An error means that no answer can be trusted: the API server cannot be reached, or failed.
func Read(ctx context.Context, c *Client, options Options) (*Cluster, error) {
	cl := &Cluster{
		Pods:       map[string][]*corev1.Pod{},
		Unresolved: map[string][]cluster.Unresolved{},
		At:         time.Now(),
		client:     c,
	}
	cl.owners.cluster = cl
	if err := cl.readInstall(ctx, options.InstallNamespace); err != nil {
		return nil, err
	}
	cl.Memory = view.New(cl.Config.Istio.RootNamespace)
	if err := cl.readObjects(ctx, options.Namespaces); err != nil {
		return nil, err
	}
	cl.Sort()
	cl.resolvePods()
	return cl, nil
}

// readObjects lists all kinds in parallel.
func (c *Cluster) readObjects(ctx context.Context, namespaces []string) error {
	var wait sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	add := func(objects []client.Object, err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
		for _, object := range objects {
			if pod, ok := object.(*corev1.Pod); ok {
				c.Pods[pod.Namespace] = append(c.Pods[pod.Namespace], pod)
			}
			c.Add(object)
		}
	}
	for _, k := range kinds {
		wait.Go(func() { add(c.listKind(ctx, k, namespaces)) })
	}
	for _, name := range namespaces {
		wait.Go(func() { add(c.getNamespace(ctx, name)) })
	}
	wait.Wait()
	slices.Sort(c.NotFound)
	c.CertManager = c.presence(certmanagerv1.SchemeGroupVersion.Group)
	return errors.Join(errs...)
}

// getNamespace reads a namespace. One that does not exist is in NotFound.
func (c *Cluster) getNamespace(ctx context.Context, name string) ([]client.Object, error) {
	namespace := &corev1.Namespace{}
	err := c.client.Get(ctx, client.ObjectKey{Name: name}, namespace)
	switch {
	case apierrors.IsNotFound(err):
		c.record.mu.Lock()
		defer c.record.mu.Unlock()
		c.NotFound = append(c.NotFound, name)
		return nil, nil
	case err != nil:
		return nil, c.record.failed(err, Denied{Verb: "get", Resource: "namespaces", Name: name})
	}
	return []client.Object{namespace}, nil
}

// resolvePods resolves what the live pods of each namespace were admitted with, as the controller does.
func (c *Cluster) resolvePods() {
	for namespace, pods := range c.Pods {
		slices.SortFunc(pods, byName)
		live := cluster.LiveOf(namespace, cluster.TrimAll(injected(pods)), c.configOf(namespace), c.services())
		c.Requests[namespace], c.Marks[namespace] = live.Requests, live.Marks
		c.Unresolved[namespace] = live.Unresolved
	}
}

// Recorded returns the request that a pod was admitted with. The error says why its record is not valid now. A pod
// without the label redis-tls/injected has no request.
func (c *Cluster) Recorded(pod *corev1.Pod) (request mesh.Request, found bool, err error) {
	live := cluster.LiveOf(pod.Namespace, cluster.TrimAll(injected([]*corev1.Pod{pod})), c.configOf(pod.Namespace),
		c.services())
	switch {
	case len(live.Unresolved) > 0:
		return mesh.Request{}, true, live.Unresolved[0].Err
	case len(live.Requests) > 0:
		return live.Requests[0], true, nil
	}
	return mesh.Request{}, false, nil
}

// configOf returns the configuration for a namespace.
func (c *Cluster) configOf(namespace string) config.Config {
	labels, _, _ := c.Namespace(namespace)
	return c.Config.For(namespace, labels)
}

// services returns the Services of the view, or nil if not all are known. Without them a pod's record is not judged by
// Services that may exist.
func (c *Cluster) services() annotation.Services {
	if c.Partial {
		return nil
	}
	return c.Memory
}
