package harness

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"
)

// watchProxyPort is on the address of the API server.
const watchProxyPort = apiServerPort + 1

// tooOld is the API server's message for a resourceVersion that is too old: in a response with status 410, or in an
// event of a watch, in any encoding (k8s.io/apiserver/pkg/storage/cacher/watch_cache.go).
var tooOld = []byte("too old resource version")

// WatchProxy is a proxy between a webhook and the API server. It can hold watches back, or cut them. All other requests
// pass at once.
type WatchProxy struct {
	url string
	ca  []byte

	mu      sync.Mutex
	held    chan struct{} // closed when watches may continue; nil if none are held
	holds   []string      // the resources of which watches are held; empty: all
	cut     bool
	watches map[*watchBody]bool

	expired atomic.Int64
}

// RunWatchProxy starts a proxy in front of the API server.
func (c *ControlPlane) RunWatchProxy() (*WatchProxy, error) {
	address := netip.AddrPortFrom(c.loopback, watchProxyPort).String()
	crt, key, err := cert.GenerateSelfSignedCertKey("watch-proxy", []net.IP{c.loopback.AsSlice()}, nil)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(crt, key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.ca)
	p := &WatchProxy{url: "https://" + address, ca: crt, watches: map[*watchBody]bool{}}
	handler, err := p.handler(c.admin.Host, &tls.Config{RootCAs: roots})
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening for watches: %w", err)
	}
	server := &http.Server{
		Handler: handler, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}},
		ReadHeaderTimeout: 5 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
	}
	go func() { _ = server.ServeTLS(listener, "", "") }() // ends with Close
	c.onStop(server.Close)
	return p, nil
}

// handler passes requests on to the API server.
func (p *WatchProxy) handler(upstream string, trust *tls.Config) (http.Handler, error) {
	target, err := url.Parse(upstream)
	if err != nil {
		return nil, err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		// HTTP/1.1, so that a watch that is held back does not hold back another request on its connection.
		Transport:      &http.Transport{TLSClientConfig: trust, MaxIdleConnsPerHost: 100, Protocols: onlyHTTP1()},
		ModifyResponse: p.follow,
		// If the API server does not answer, the proxy does not answer either.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isWatch(r) && p.isCut() {
			// The only answer after which client-go continues from the same resourceVersion instead of listing again
			// (isWatchErrorRetriable in tools/cache/reflector.go).
			w.Header().Set("Retry-After", "1")
			http.Error(w, "the watch is cut", http.StatusTooManyRequests)
			return
		}
		proxy.ServeHTTP(w, r)
	}), nil
}

func onlyHTTP1() *http.Protocols {
	p := &http.Protocols{}
	p.SetHTTP1(true)
	return p
}

// through changes a client configuration to use the proxy.
func (p *WatchProxy) through(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.Host, config.CAData = p.url, p.ca
	return config
}

// Hold keeps the events of all watches back, and of new ones, until release is called. If resources are given ("pods"),
// it holds only theirs. Requests and the beginnings of responses pass.
func (p *WatchProxy) Hold(resources ...string) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := make(chan struct{})
	p.held, p.holds = held, resources
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.held, p.holds = nil, nil
		close(held)
	})
}

// Cut ends all watches and refuses new ones until restore is called.
func (p *WatchProxy) Cut() (restore func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for watch := range p.watches {
		watch.cut.Store(true)
		_ = watch.ReadCloser.Close() // ends the current read
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.cut = false
	}
}

// Watches returns the number of open watches.
func (p *WatchProxy) Watches() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.watches)
}

// Expired returns how often the API server has answered a watch that its resourceVersion is too old (410 Gone).
func (p *WatchProxy) Expired() int { return int(p.expired.Load()) }

func (p *WatchProxy) isCut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

func isWatch(r *http.Request) bool {
	watch, err := strconv.ParseBool(r.URL.Query().Get("watch"))
	return err == nil && watch
}

// follow replaces the body of a watch's response by one that the proxy can hold back.
func (p *WatchProxy) follow(response *http.Response) error {
	if !isWatch(response.Request) {
		return nil
	}
	if response.StatusCode == http.StatusGone {
		p.expired.Add(1)
	}
	body := &watchBody{
		ReadCloser: response.Body,
		proxy:      p,
		resource:   path.Base(response.Request.URL.Path),
		closed:     make(chan struct{}),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut { // since it was let in
		body.cut.Store(true)
		_ = response.Body.Close()
	}
	p.watches[body] = true
	response.Body = body
	return nil
}

// watchBody is the body of a watch's response.
type watchBody struct {
	io.ReadCloser
	proxy    *WatchProxy
	resource string
	cut      atomic.Bool
	once     sync.Once
	closed   chan struct{}
}

// Read returns the data of the API server when no Hold keeps it back.
func (b *watchBody) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into)
	if err != nil && b.cut.Load() {
		// This is how the API server ends a watch when its time is over. After a broken watch client-go would list again.
		err = io.EOF
	}
	if bytes.Contains(into[:n], tooOld) {
		b.proxy.expired.Add(1)
	}
	b.proxy.mu.Lock()
	held := b.proxy.held
	if len(b.proxy.holds) > 0 && !slices.Contains(b.proxy.holds, b.resource) {
		held = nil
	}
	b.proxy.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-b.closed:
		}
	}
	return n, err
}

// The reverse proxy calls Close when either side has ended.
func (b *watchBody) Close() error {
	b.once.Do(func() {
		close(b.closed)
		b.proxy.mu.Lock()
		defer b.proxy.mu.Unlock()
		delete(b.proxy.watches, b)
	})
	return b.ReadCloser.Close()
}
