package harness

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestWatchProxy proves that the proxy holds back what it should and nothing else. Otherwise a test of lagging watches
// would prove nothing.
func TestWatchProxy(t *testing.T) {
	events := make(chan string)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isWatch(r) {
			fmt.Fprintln(w, "listed")
			return
		}
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		for {
			select {
			case event := <-events:
				fmt.Fprintln(w, event)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(upstream.Close)
	p := &WatchProxy{watches: map[*watchBody]bool{}}
	handler, err := p.handler(upstream.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(handler)
	t.Cleanup(proxy.Close) // after its responses, which it waits for

	get := func(query string) *http.Response {
		t.Helper()
		response, err := http.Get(proxy.URL + query)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { response.Body.Close() })
		return response
	}
	lines := func(r *http.Response) <-chan string {
		out := make(chan string)
		go func() {
			defer close(out)
			for scan := bufio.NewScanner(r.Body); scan.Scan(); {
				out <- scan.Text()
			}
		}()
		return out
	}
	wantNext := func(from <-chan string, want string) {
		t.Helper()
		select {
		case got := <-from:
			if got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		case <-time.After(startTimeout):
			t.Fatalf("waited %s for %q", startTimeout, want)
		}
	}

	watched := get("/?watch=1")
	watch := lines(watched)
	events <- "one"
	wantNext(watch, "one")

	release := p.Hold()
	events <- "two"
	wantNext(lines(get("/")), "listed") // while "two" is under way
	select {
	case got := <-watch:
		t.Fatalf("%q came through a proxy that holds it back", got)
	default:
	}
	release()
	wantNext(watch, "two")

	events <- "too old resource version: 1 (2)"
	wantNext(watch, "too old resource version: 1 (2)")
	if p.Expired() != 1 || p.Watches() != 1 {
		t.Errorf("%d expired, %d watches; want one each", p.Expired(), p.Watches())
	}

	mend := p.Cut()
	wantNext(watch, "") // its end
	if _, err := watched.Body.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a watch that was cut ends with %v, want %v", err, io.EOF)
	}
	if got := get("/?watch=1").StatusCode; got != http.StatusTooManyRequests {
		t.Errorf("a watch while they are cut: %d", got)
	}
	wantNext(lines(get("/")), "listed")
	mend()
	if got := get("/?watch=1").StatusCode; got != http.StatusOK {
		t.Errorf("a watch after the cut: %d", got)
	}
}
