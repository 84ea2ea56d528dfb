// Package server serves an http.Handler over HTTPS for an admission webhook: slow or broken requests do not block it,
// and it shuts down without a failed request.
//
// [New] returns a [Server], which is a manager.Runnable. It replaces controller-runtime's webhook.Server, which closes
// its listener at the signal, while API servers still dial it. The package is independent of pods and must not import
// packages that are not.
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

// DrainTimeout is the time for requests in flight after the listener is closed. It is longer than any sensible timeout
// of a webhook call, and shorter than the rest of the pod's grace period in the chart.
const DrainTimeout = 15 * time.Second

// Options are the address, the certificate and the clients of a Server.
type Options struct {
	// Host and Port are the address to listen on. An empty host means all addresses.
	Host string
	Port int
	// GetCertificate is tls.Config.GetCertificate.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Clients are the clients that may call. The zero value allows all clients.
	Clients Clients
	// ShutdownDelay is the time that new connections are still served after the context has ended, until all clients know
	// that this replica is not ready.
	ShutdownDelay time.Duration
	Log           logr.Logger
}

// timeouts are the timeouts of a connection.
type timeouts struct {
	// header is for the TLS handshake and the header, read for the whole request, write from header to response.
	header, read, write time.Duration
	// idle is the time that a connection is kept without a request.
	idle time.Duration
}

// defaultTimeouts are for API servers, which send a request at once and wait for at most 30 s, in the chart 5 s. They
// close idle connections after 90 s (SetTransportDefaults in k8s.io/apimachinery/pkg/util/net keeps net/http's
// default). If the server closed them earlier, a request that arrives at that moment would fail.
var defaultTimeouts = timeouts{
	header: 5 * time.Second,
	read:   10 * time.Second,
	write:  30 * time.Second,
	idle:   2 * time.Minute,
}

// maxHeader is the maximum size of a request's header. An API server sends some hundred bytes.
const maxHeader = 16 << 10

// Server is a manager.Runnable that runs on every replica.
type Server struct {
	options  Options
	handler  http.Handler
	timeouts timeouts
	drain    time.Duration
	delayed  chan time.Time // ends the delay in tests
	clients  *clients
	panics   prometheus.Counter

	address  atomic.Pointer[net.TCPAddr] // nil until it listens
	draining atomic.Bool

	stop    chan struct{} // closed by Drain
	once    sync.Once
	started atomic.Bool
	done    chan struct{} // closed at the end of Start
}

// New returns a Server of the handler and registers its metrics.
func New(o Options, handler http.Handler, registry prometheus.Registerer) (*Server, error) {
	s := &Server{
		options:  o,
		timeouts: defaultTimeouts,
		drain:    DrainTimeout,
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	s.panics = metrics.NewCounter(metrics.ServerPanics)
	if err := metrics.Register(registry, s.panics); err != nil {
		return nil, fmt.Errorf("registering the server's metrics: %w", err)
	}
	var err error
	if s.clients, err = newClients(o.Clients); err != nil {
		return nil, err
	}
	s.handler = s.closeDraining(s.recoverPanics(handler))
	return s, nil
}

// NeedLeaderElection returns false, because every replica serves.
func (s *Server) NeedLeaderElection() bool { return false }

// Start serves until the context ends or Drain is called. Then it serves for ShutdownDelay, closes the listener, and
// waits for the requests in flight. The contexts of requests do not end with the given one.
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
	case <-s.stop:
	}
	s.draining.Store(true)
	s.options.Log.Info("not ready, draining", "closing in", s.options.ShutdownDelay.String())
	select {
	case err := <-failed:
		return fmt.Errorf("serving the webhook: %w", err)
	case <-time.After(s.options.ShutdownDelay):
	case <-s.delayed:
	}
	ending, cancel := context.WithTimeout(context.Background(), s.drain)
	defer cancel()
	if err := server.Shutdown(ending); err != nil {
		return errors.Join(fmt.Errorf("draining the webhook: %w", err), server.Close())
	}
	return nil
}

// Drain ends Start, as the end of its context does, and waits for it.
func (s *Server) Drain() {
	s.once.Do(func() { close(s.stop) })
	s.Wait()
}

// Wait returns when Start has returned, or at once if Start was not called.
func (s *Server) Wait() {
	if s.started.Load() {
		<-s.done
	}
}

// Ready is a healthz.Checker. It returns nil while this replica accepts requests.
func (s *Server) Ready(*http.Request) error {
	switch {
	case s.address.Load() == nil:
		return errors.New("the webhook does not listen yet")
	case s.draining.Load():
		return errors.New("the webhook is shutting down")
	}
	return nil
}

// http returns the server with its limits. It speaks only HTTP/1.1, as API servers do with a Service (hookClientConfig
// in k8s.io/apiserver/pkg/util/webhook/client.go). HTTP/2 would need more limits.
func (s *Server) http() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:   s.handler,
		Protocols: protocols,
		TLSConfig: s.clients.require(&tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: s.options.GetCertificate,
		}),
		ReadHeaderTimeout: s.timeouts.header,
		ReadTimeout:       s.timeouts.read,
		WriteTimeout:      s.timeouts.write,
		IdleTimeout:       s.timeouts.idle,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(verboseLog{s.options.Log}, "", 0),
	}
}

// verboseLog logs net/http's errors of single connections only at level 1, because any client may cause them.
type verboseLog struct{ log logr.Logger }

func (q verboseLog) Write(line []byte) (int, error) {
	q.log.V(1).Info("connection error", "error", string(line))
	return len(line), nil
}
