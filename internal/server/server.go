// Package server serves an http.Handler over HTTPS as an admission webhook must be served: nobody's slow or
// broken request holds it up, and it leaves without a request failing.
//
// In go a handler, where the certificate comes from and who may call; out comes a manager.Runnable. It is not
// controller-runtime's webhook.Server, which closes its listener in the moment of the signal, while API
// servers still dial it. The package knows nothing of pods and must never import the packages that do.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/redis-tls/redis-tls/internal/metrics"
)

// DrainTimeout is how long requests in flight may take to end once the listener is closed: longer than the
// longest timeout of a webhook's call that still makes sense, shorter than what the chart's pod has left.
const DrainTimeout = 15 * time.Second

// Options say where and for whom is served.
type Options struct {
	// Host and Port to listen on; an empty host is all addresses.
	Host string
	Port int
	// GetCertificate is tls.Config.GetCertificate.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Clients are those that may call; the zero value lets everybody.
	Clients Clients
	// ShutdownDelay is how long new connections are still served after the context's end: until everybody who
	// may dial has heard that this replica is not ready any more.
	ShutdownDelay time.Duration
	Log           logr.Logger
}

// timeouts are those of one connection.
type timeouts struct {
	// header is for the TLS handshake and the header, read for the whole request, write for header to answer.
	header, read, write time.Duration
	// idle is how long a connection is kept without a request.
	idle time.Duration
}

// An API server waits 30 s at most, by the chart 5 s, and sends at once. Its idle connections it closes itself after 90 s
// (k8s.io/apimachinery/pkg/util/net, SetTransportDefaults, keeps net/http's default); closed by us
// first, one could be closed just when a request comes, which then fails.
var usual = timeouts{header: 5 * time.Second, read: 10 * time.Second, write: 30 * time.Second, idle: 2 * time.Minute}

// maxHeader is the size of a request's header; an API server's has some hundred bytes.
const maxHeader = 16 << 10

// Server is the manager.Runnable of every replica.
type Server struct {
	options  Options
	handler  http.Handler
	timeouts timeouts
	drain    time.Duration
	delayed  chan time.Time // tests end the delay by it
	clients  *clients
	panics   prometheus.Counter

	address  atomic.Pointer[net.TCPAddr] // nil until it listens
	draining atomic.Bool

	leave   chan struct{} // closed by Drain
	once    sync.Once
	started atomic.Bool
	done    chan struct{} // closed at the end of Start
}

// New returns a Server of the handler and registers its metrics.
func New(o Options, handler http.Handler, registry prometheus.Registerer) (*Server, error) {
	s := &Server{options: o, timeouts: usual, drain: DrainTimeout, leave: make(chan struct{}), done: make(chan struct{})}
	s.panics = metrics.NewCounter(metrics.ServerPanics)
	if err := metrics.Register(registry, s.panics); err != nil {
		return nil, fmt.Errorf("registering the server's metrics: %w", err)
	}
	var err error
	if s.clients, err = newClients(o.Clients); err != nil {
		return nil, err
	}
	s.handler = s.leaving(s.recovering(handler))
	return s, nil
}

// NeedLeaderElection says that every replica serves.
func (s *Server) NeedLeaderElection() bool { return false }

// Start serves until the context ends or Drain is called, then for ShutdownDelay more, and then ends what is
// in flight. No request's context ends with the given one.
func (s *Server) Start(ctx context.Context) error {
	s.started.Store(true)
	defer close(s.done)
	listener, err := net.Listen("tcp", net.JoinHostPort(s.options.Host, strconv.Itoa(s.options.Port)))
	if err != nil {
		return fmt.Errorf("serving the webhook: %w", err)
	}
	server := s.http()
	failed := make(chan error, 1)
	go func() { failed <- server.ServeTLS(listener, "", "") }()
	s.address.Store(listener.Addr().(*net.TCPAddr))
	s.options.Log.Info("serving", "address", listener.Addr().String())
	select {
	case err := <-failed:
		return fmt.Errorf("serving the webhook: %w", err)
	case <-ctx.Done():
	case <-s.leave:
	}
	s.draining.Store(true)
	s.options.Log.Info("not ready any more", "closing in", s.options.ShutdownDelay.String())
	select {
	case err := <-failed:
		return fmt.Errorf("serving the webhook: %w", err)
	case <-time.After(s.options.ShutdownDelay):
	case <-s.delayed:
	}
	ending, cancel := context.WithTimeout(context.Background(), s.drain)
	defer cancel()
	if err := server.Shutdown(ending); err != nil {
		return errors.Join(fmt.Errorf("ending the webhook's requests: %w", err), server.Close())
	}
	return nil
}

// Drain ends Start as the end of its context does, and returns when Start has.
func (s *Server) Drain() {
	s.once.Do(func() { close(s.leave) })
	s.Wait()
}

// Wait returns when Start has, at once where it was not called.
func (s *Server) Wait() {
	if s.started.Load() {
		<-s.done
	}
}

// Ready is a healthz.Checker: nil while this replica may be sent requests.
func (s *Server) Ready(*http.Request) error {
	switch {
	case s.address.Load() == nil:
		return errors.New("the webhook does not listen yet")
	case s.draining.Load():
		return errors.New("the webhook is shutting down")
	}
	return nil
}

// http returns the server with its limits. It speaks HTTP/1.1 alone: API servers speak nothing else to a Service
// (hookClientConfig in k8s.io/apiserver/pkg/util/webhook/client.go), and what is not there needs no limits.
func (s *Server) http() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           s.handler,
		Protocols:         protocols,
		TLSConfig:         s.clients.require(&tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.options.GetCertificate}),
		ReadHeaderTimeout: s.timeouts.header,
		ReadTimeout:       s.timeouts.read,
		WriteTimeout:      s.timeouts.write,
		IdleTimeout:       s.timeouts.idle,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(quiet{s.options.Log}, "", 0),
	}
}

// quiet logs what net/http has to say of single connections, which anybody may cause.
type quiet struct{ log logr.Logger }

func (q quiet) Write(line []byte) (int, error) {
	q.log.V(1).Info("connection", "said", string(line))
	return len(line), nil
}
