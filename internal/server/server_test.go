package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/client-go/util/cert"

	"github.com/redis-tls/redis-tls/test/catalog"
)

// Unit: the server over real connections on a loopback address.

// running is a started Server with its clients.
type running struct {
	*Server
	t     *testing.T
	stop  context.CancelFunc
	ended chan error
	tls   *tls.Config
}

// run serves the handler until the test ends. It calls change before the start.
func run(t *testing.T, o Options, handler http.HandlerFunc, change ...func(*Server)) *running {
	t.Helper()
	crt, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(crt, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(crt)
	o.Host, o.Log = "127.0.0.1", logr.Discard()
	o.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }
	s, err := New(o, handler, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(s)
	}
	if s.Ready(nil) == nil {
		t.Error("ready before it listens")
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{Server: s, t: t, stop: stop, ended: make(chan error, 1), tls: &tls.Config{RootCAs: roots}}
	go func() { r.ended <- s.Start(ctx) }()
	t.Cleanup(func() { stop(); s.Wait() })
	r.eventually("the server to listen", func() bool { return s.Ready(nil) == nil })
	return r
}

func (r *running) eventually(what string, holds func() bool) {
	r.t.Helper()
	eventually(r.t, what, holds)
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for begun := time.Now(); !holds(); time.Sleep(time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

// client returns a client with its own connection pool.
func (r *running) client() *http.Client {
	transport := &http.Transport{TLSClientConfig: r.tls.Clone(), ForceAttemptHTTP2: true}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (r *running) url() string { return "https://" + r.address.Load().String() }

// dial returns a TLS connection. It retries, because on a busy machine a handshake may exceed the header's timeout.
func (r *running) dial(t *testing.T) net.Conn {
	t.Helper()
	var c *tls.Conn
	eventually(t, "a handshake", func() (done bool) {
		var err error
		c, err = tls.Dial("tcp", r.address.Load().String(), r.tls)
		return err == nil
	})
	t.Cleanup(func() { c.Close() })
	return c
}

func get(client *http.Client, url string) (*http.Response, string, error) {
	response, err := client.Get(url)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, string(body), err
}

func hello(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }

func TestDraining(t *testing.T) {
	began, release := make(chan context.Context, 1), make(chan struct{})
	s := run(t, Options{ShutdownDelay: time.Hour}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			began <- r.Context()
			<-release
		}
		hello(w, r)
	}, func(s *Server) { s.delayed = make(chan time.Time) })
	over, end := s.delayed, sync.OnceFunc(func() { close(release) })
	defer func() { // if the test fails
		end()
		s.stop()
		select {
		case over <- time.Now():
		case <-s.done:
		}
	}()

	kept := s.client()
	if response, _, err := get(kept, s.url()); err != nil || response.Close {
		t.Fatalf("before: %v, %+v", err, response)
	}
	slow := make(chan error, 1)
	go func() {
		_, body, err := get(s.client(), s.url()+"/slow")
		if err == nil && body != "hello" {
			err = fmt.Errorf("body %q", body)
		}
		slow <- err
	}()
	inFlight := <-began

	s.stop()
	s.eventually("the server to become unready", func() bool { return s.Ready(nil) != nil })
	for what, client := range map[string]*http.Client{"an existing connection": kept, "a new connection": s.client()} {
		response, body, err := get(client, s.url())
		if err != nil || body != "hello" {
			t.Errorf("%s while it drains: %q, %v", what, body, err)
		} else if !response.Close {
			t.Errorf("%s while it drains is kept: its next request would not go to another replica", what)
		}
	}

	select {
	case over <- time.Now():
	case <-time.After(20 * time.Second):
		t.Fatal("the server does not wait for the delay")
	}
	s.eventually("the listener to be closed", func() bool {
		_, _, err := get(s.client(), s.url())
		return err != nil
	})
	if inFlight.Err() != nil {
		t.Error("the request in flight was cancelled")
	}
	select {
	case err := <-s.ended:
		t.Fatalf("the server ended before its request: %v", err)
	default:
	}
	end()
	if err := <-slow; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
}

func TestDrainEndsStart(t *testing.T) {
	s := run(t, Options{}, hello)
	s.Drain() // hangs if Start does not end
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
	s.Drain()
	fresh, err := New(Options{}, http.HandlerFunc(hello), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	fresh.Drain() // hangs if it waits for a Start that was not called
}

func TestRequestThatDoesNotEndIsCutOff(t *testing.T) {
	release := make(chan struct{})
	began := make(chan struct{})
	s := run(t, Options{}, func(
		http.ResponseWriter,
		*http.Request,
	) {
		close(began)
		<-release
	}, func(s *Server) { s.drain = time.Millisecond })
	defer close(release)
	go func() { _, _, _ = get(s.client(), s.url()) }()
	<-began
	s.stop()
	select {
	case err := <-s.ended:
		if err == nil || !strings.Contains(err.Error(), "draining the webhook") {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the server waits forever")
	}
}

func TestPanicIsA500AndTheNextRequestWorks(t *testing.T) {
	s := run(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/panic":
			panic("boom")
		case "/half":
			_, _ = w.Write(bytes.Repeat([]byte("x"), 10000))
			panic("boom")
		}
		hello(w, r)
	})
	c := catalog.Open(t)
	client := s.client()
	response, body, err := get(client, s.url()+"/panic")
	c.Add("the response", strings.TrimSpace(body))
	if err != nil || response.StatusCode != http.StatusInternalServerError || strings.Contains(body, "boom") {
		t.Errorf("got %v %q %v", response, body, err)
	}
	if _, body, err := get(client, s.url()+"/half"); err == nil {
		t.Errorf("a partial response of %d bytes looks complete", len(body))
	}
	if _, body, err := get(client, s.url()); err != nil || body != "hello" {
		t.Errorf("the next request: %q, %v", body, err)
	}
	if got := testutil.ToFloat64(s.panics); got != 2 {
		t.Errorf("counted %v panics, want 2", got)
	}
}

func TestProtocols(t *testing.T) {
	s := run(t, Options{}, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })
	if _, body, err := get(s.client(), s.url()); err != nil || body != "HTTP/1.1" {
		t.Errorf("a client with HTTP/2 used %q, %v", body, err)
	}
	for version, want := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		config := s.tls.Clone()
		config.MinVersion, config.MaxVersion = version, version
		c, err := tls.Dial("tcp", s.address.Load().String(), config)
		if got := err == nil; got != want {
			t.Errorf("%s: %v, want it accepted: %t", tls.VersionName(version), err, want)
		}
		if err == nil {
			c.Close()
		}
	}
}

// TestSlowClientsAreCutOff opens connections that send nothing, send an incomplete request, or read no response.
func TestSlowClientsAreCutOff(t *testing.T) {
	short := func(s *Server) {
		s.timeouts = timeouts{
			header: 200 * time.Millisecond,
			read:   300 * time.Millisecond,
			write:  time.Second,
			idle:   400 * time.Millisecond,
		}
	}
	var cutOff atomic.Bool
	s := run(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/body":
			_, err := io.ReadAll(r.Body)
			fmt.Fprint(w, err)
		case "/answer":
			for {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					cutOff.Store(true)
					return
				}
			}
		}
	}, short)
	for name, send := range map[string]string{
		"nothing":              "",
		"half a header":        "POST / HTTP/1.1\r\nHost: a\r\nX-Slow: ",
		"half a body":          "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf",
		"no next request":      "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"no TLS":               "",
		"half a TLS handshake": "\x16\x03\x01",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c net.Conn
			var err error
			if strings.Contains(name, "TLS") {
				if c, err = net.Dial("tcp", s.address.Load().String()); err != nil {
					t.Fatal(err)
				}
				defer c.Close()
			} else {
				c = s.dial(t)
			}
			_, _ = io.WriteString(c, send) // the connection may be cut off already
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
			if _, err := io.ReadAll(c); err != nil && strings.Contains(err.Error(), "i/o timeout") {
				t.Errorf("the connection is still open: %v", err)
			}
		})
	}
	t.Run("a response that the client does not read", func(t *testing.T) {
		t.Parallel()
		c := s.dial(t)
		_, _ = io.WriteString(c, "GET /answer HTTP/1.1\r\nHost: a\r\n\r\n")
		eventually(t, "the handler to be cut off", cutOff.Load)
	})
}

func TestLongHeaderIsRefused(t *testing.T) {
	s := run(t, Options{}, hello)
	c := s.dial(t)
	go func() {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nX-Long: "+strings.Repeat("x", 64<<10)+"\r\n\r\n")
	}()
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %+v, %v", response, err)
	}
}

func TestAddressInUseIsAnError(t *testing.T) {
	s := run(t, Options{}, hello)
	second, err := New(Options{
		Host: "127.0.0.1",
		Port: s.address.Load().Port,
	}, http.HandlerFunc(hello), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
}
