package server

import (
	"fmt"
	"net/http"
	"runtime/debug"
)

// leaving has every connection that is used while the replica drains closed by its client, between two requests:
// the next one is dialled anew, and so goes to a replica that stays. A connection that we close
// could be closed just when a request comes.
func (s *Server) leaving(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// recovering answers a panic with a 500. Where the answer has begun already, its connection is closed: half an
// answer must not look like one.
func (s *Server) recovering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := &begun{ResponseWriter: w}
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if cause == http.ErrAbortHandler {
				panic(cause) // on purpose
			}
			s.panics.Inc()
			s.options.Log.Error(fmt.Errorf("%v", cause), "panic in a request", "path", r.URL.Path, "stack", string(debug.Stack()))
			if begun.yes {
				panic(http.ErrAbortHandler)
			}
			http.Error(w, "the webhook failed, which is a bug of its own; its log has the details", http.StatusInternalServerError)
		}()
		next.ServeHTTP(begun, r)
	})
}

// begun notes whether an answer has begun.
type begun struct {
	http.ResponseWriter
	yes bool
}

func (b *begun) WriteHeader(status int) {
	b.yes = true
	b.ResponseWriter.WriteHeader(status)
}

func (b *begun) Write(p []byte) (int, error) {
	b.yes = true
	return b.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (b *begun) Unwrap() http.ResponseWriter { return b.ResponseWriter }
