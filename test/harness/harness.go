// Package harness runs the real control plane for tests and the demo: etcd, kube-apiserver and kube-controller-manager,
// the chart as Helm renders it, the webhook as the chart's Deployment describes it, and a stand-in for Istio's sidecar
// injector.
//
// [Start] runs the binaries of `make control-plane` and returns a [ControlPlane] with clients, handles to pause, kill
// and restart each part, and a Stop that removes everything. There is no kubelet and no scheduler: pods stay pending,
// and the harness does for the webhook what a kubelet would do (volumes, environment, readiness, endpoints). It must
// never import a package of the product. All that it has of the product comes from the chart and from its binaries.
package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Options configure Start. The zero value is a control plane as most tests want it.
type Options struct {
	// APIServerArgs are added to kube-apiserver's arguments, and override them.
	APIServerArgs []string
	// EtcdArgs are added to etcd's arguments, and override them.
	EtcdArgs []string
	// Progress, if set, is called with each component that is started.
	Progress func(format string, args ...any)
}

// ControlPlane is a running control plane. Its fields are set by Start and not changed afterwards.
type ControlPlane struct {
	// Etcd, APIServer and ControllerManager can be paused, killed and started again one by one.
	Etcd, APIServer, ControllerManager *Process
	// Client and Clientset are the administrator's, without client-side rate limits. Client knows
	// Kubernetes' types, CustomResourceDefinitions and Istio's networking/v1.
	Client    client.Client
	Clientset kubernetes.Interface
	// Kubeconfig is the path of the administrator's kubeconfig.
	Kubeconfig string
	// FirstUse are values of charts/redis-tls under those of every RenderChart. By default pods wait for no istiod, which
	// does not exist, and not for a busy one either.
	FirstUse map[string]any

	root       string // of the repository
	dir        string // temporary; Stop removes it
	logs       string
	binaries   map[string]string
	net        *network
	loopback   netip.Addr // the components listen here
	address    netip.Addr // of the veth pair, what kube-apiserver advertises
	etcdURL    string
	adminToken string
	ca         []byte // PEM; verifies kube-apiserver's certificate
	admin      *rest.Config

	endpoints sync.Mutex // held while Endpoints are read and written

	mu       sync.Mutex
	closers  []func() error // run last to first by Stop
	stopping bool

	stop    sync.Once
	stopped chan struct{}
	stopErr error
}

// logsVariable is the environment variable with a directory in which logs are kept after Stop.
const logsVariable = "HARNESS_LOGS"

// tempName matches the temporary directories of all harnesses. The number is the process that created it.
var tempName = regexp.MustCompile(`^redis-tls-(\d+)-`)

// Start starts a control plane and waits until it serves. If it fails or the process is interrupted, everything is
// stopped and removed. The next Start removes what a killed process has left.
func Start(ctx context.Context, o Options) (*ControlPlane, error) {
	if o.Progress == nil {
		o.Progress = func(string, ...any) {}
	}
	c := &ControlPlane{
		FirstUse: map[string]any{"acknowledgement": false, "delay": "1s"},
		stopped:  make(chan struct{}),
	}
	c.stopOnSignal()
	if err := c.start(ctx, o); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *ControlPlane) start(ctx context.Context, o Options) (err error) {
	if c.root, err = ModuleRoot(); err != nil {
		return err
	}
	if c.binaries, err = binaries(c.root); err != nil {
		return err
	}
	if err := c.makeDirectories(); err != nil {
		return err
	}
	if c.net, err = newNetwork(); err != nil {
		return err
	}
	c.onStop(c.net.close)
	if c.address, err = c.net.address(); err != nil {
		return err
	}
	if c.loopback, err = freeLoopback(); err != nil {
		return err
	}
	if err := c.makeCredentials(); err != nil {
		return err
	}
	for _, start := range []func(context.Context, Options) error{c.startEtcd, c.startAPIServer, c.startControllerManager} {
		if err := start(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// Stop stops what was started, in reverse order, and removes what was created. Further calls return the same error.
func (c *ControlPlane) Stop() error {
	c.stop.Do(func() {
		c.mu.Lock()
		closers := c.closers
		c.stopping = true
		c.mu.Unlock()
		for i := len(closers) - 1; i >= 0; i-- {
			c.stopErr = errors.Join(c.stopErr, closers[i]())
		}
		close(c.stopped)
	})
	<-c.stopped
	return c.stopErr
}

// Stopped is closed when Stop has finished.
func (c *ControlPlane) Stopped() <-chan struct{} { return c.stopped }

// onStop registers a function for Stop. If Stop has already begun, it is called at once.
func (c *ControlPlane) onStop(undo func() error) {
	c.mu.Lock()
	late := c.stopping
	if !late {
		c.closers = append(c.closers, undo)
	}
	c.mu.Unlock()
	if late {
		_ = undo()
	}
}

// stopOnSignal stops the control plane before a signal ends the process.
func (c *ControlPlane) stopOnSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		defer signal.Stop(signals)
		select {
		case <-c.stopped:
		case s := <-signals:
			fmt.Fprintf(os.Stderr, "\n%s: stopping the control plane\n", s)
			if err := c.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			signal.Reset(s)
			_ = syscall.Kill(os.Getpid(), s.(syscall.Signal))
		}
	}()
}

func (c *ControlPlane) makeDirectories() error {
	if err := removeStaleDirectories(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", fmt.Sprintf("redis-tls-%d-", os.Getpid()))
	if err != nil {
		return err
	}
	c.dir, c.logs = dir, filepath.Join(dir, "logs")
	c.onStop(func() error { return os.RemoveAll(dir) })
	if kept := os.Getenv(logsVariable); kept != "" {
		c.logs = filepath.Join(kept, filepath.Base(dir))
	}
	return os.MkdirAll(c.logs, 0o755)
}

// removeStaleDirectories removes the temporary directories of harnesses whose process is gone.
func removeStaleDirectories() error {
	entries, err := os.ReadDir(os.TempDir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if m := tempName.FindStringSubmatch(e.Name()); m != nil && e.IsDir() && processGone(m[1]) {
			// Another user's directory cannot be removed, and that is not an error.
			_ = os.RemoveAll(filepath.Join(os.TempDir(), e.Name()))
		}
	}
	return nil
}

// The ports of the components. All of 127.0.0.0/8 is local, so every control plane has its own address there. It does
// not have to search free ports, which other processes could take in between.
const (
	etcdClientPort = 2379
	etcdPeerPort   = 2380
	apiServerPort  = 6443
)

// freeLoopback returns a loopback address on which all these ports are free, derived from the process id.
func freeLoopback() (netip.Addr, error) {
	var last error
	for i := range 100 {
		n := os.Getpid()*addressesPerProcess + i
		a := netip.AddrFrom4([4]byte{127, 64 + byte(n>>16)&63, byte(n >> 8), byte(n)})
		if last = portsFree(a, etcdClientPort, etcdPeerPort, apiServerPort, watchProxyPort); last == nil {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("finding a loopback address with free ports: %w", last)
}

func portsFree(a netip.Addr, ports ...uint16) error {
	for _, port := range ports {
		l, err := net.Listen("tcp", netip.AddrPortFrom(a, port).String())
		if err != nil {
			return err
		}
		l.Close()
	}
	return nil
}

// startTimeout is for each component. On two busy cores they take a few seconds.
const startTimeout = 2 * time.Minute
