package live_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/live"
)

func scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s, err := live.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	return s
}
