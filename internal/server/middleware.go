package server

import (
	"fmt"
	"net/http"
	"runtime/debug"
)

// closeDraining makes clients close the connections that they use while the replica drains. Their next request then
// dials another replica. If the server closed the connections, a request that arrives at that moment would fail.
func (s *Server) closeDraining(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// recoverPanics answers a panic with status 500. If the response has started, it closes the connection, because a
// partial response must not look complete.
func (s *Server) recoverPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := &startedWriter{ResponseWriter: w}
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if cause == http.ErrAbortHandler {
				panic(cause) // intentional
			}
			s.panics.Inc()
			s.options.Log.Error(
				fmt.Errorf("%v", cause),
				"panic in a request",
				"path",
				r.URL.Path,
				"stack",
				string(debug.Stack()),
			)
			if started.started {
				panic(http.ErrAbortHandler)
			}
			http.Error(w, "the webhook failed because of a bug; its log has the stack trace", http.StatusInternalServerError)
		}()
		next.ServeHTTP(started, r)
	})
}

// startedWriter reports whether a response has started.
type startedWriter struct {
	http.ResponseWriter
	started bool
}

func (w *startedWriter) WriteHeader(status int) {
	w.started = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *startedWriter) Write(p []byte) (int, error) {
	w.started = true
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *startedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
