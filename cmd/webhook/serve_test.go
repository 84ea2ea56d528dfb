package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/redis-tls/redis-tls/internal/server"
)

// fakeManager is a manager with only Start.
type fakeManager struct {
	ctrl.Manager
	start func(context.Context) error
}

func (m fakeManager) Start(ctx context.Context) error { return m.start(ctx) }

// newServer returns a server that listens on the loopback address.
func newServer(t *testing.T) *server.Server {
	t.Helper()
	none := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("none") }
	s, err := server.New(server.Options{
		Host:           "127.0.0.1",
		GetCertificate: none,
		Log:            logr.Discard(),
	}, http.NotFoundHandler(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestServerDrainsBeforeEverythingElseStops(t *testing.T) {
	serving := newServer(t)
	ctx, stop := context.WithCancel(t.Context())
	err := serve(ctx, fakeManager{start: func(running context.Context) error {
		ended := make(chan error, 1)
		own, end := context.WithCancel(context.Background())
		defer end()
		go func() { ended <- serving.Start(own) }()
		for serving.Ready(nil) != nil {
			if t.Context().Err() != nil {
				return errors.New("the server does not start")
			}
		}
		stop()
		<-running.Done()
		if serving.Ready(nil) == nil {
			return errors.New("the server still serves")
		}
		return <-ended
	}}, serving)
	if err != nil {
		t.Error(err)
	}
}

func TestLostLeaseDoesNotEndRequestsInFlight(t *testing.T) {
	serving := newServer(t)
	served := make(chan struct{})
	err := serve(t.Context(), fakeManager{start: func(context.Context) error {
		ctx, lost := context.WithCancel(context.Background())
		// The server stops after the manager. A serve that does not wait returns while the server is ready, even on a busy
		// machine.
		defer time.AfterFunc(time.Second, lost)
		go func() {
			_ = serving.Start(ctx)
			close(served)
		}()
		for serving.Ready(nil) != nil {
			if t.Context().Err() != nil {
				return errors.New("the server does not start")
			}
		}
		return errors.New("leader election lost")
	}}, serving)
	if err == nil || err.Error() != "running: leader election lost" {
		t.Errorf("got %v", err)
	}
	if err := serving.Ready(nil); err == nil {
		t.Error("the server is ready")
	}
	<-served
}
