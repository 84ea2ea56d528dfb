package webhook

import (
	"testing"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

func TestPodThatNeedsCertManagerTriggersDiscovery(t *testing.T) {
	issuing := map[string]string{
		"redis-tls/host":   "redis.example.com",
		"redis-tls/mode":   "mutual",
		"redis-tls/issuer": "redis",
	}
	for _, mode := range []config.PolicyMode{config.PolicyEnforce, config.PolicyWarn} {
		needed := 0
		h := newHandler(t, &view{certManager: mesh.Absent}, mode)
		h.NeedCertManager = func() { needed++ }
		response := answer(t, post(h, newReview(t, newPod(issuing))))
		if response.Allowed != (mode == config.PolicyWarn) {
			t.Errorf("policy.mode %s: allowed %t", mode, response.Allowed)
		}
		if needed != 1 {
			t.Errorf("policy.mode %s: NeedCertManager is called %d times, want 1", mode, needed)
		}
		answer(t, post(h, newReview(t, newPod(requesting))))
		if needed != 1 {
			t.Errorf("policy.mode %s: NeedCertManager is called for a pod that does not need cert-manager", mode)
		}
	}
}
