package integration

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	networking "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// policyEngine is the name of Kyverno's webhook configuration. The API server calls it after those of redis-tls and
// Istio.
const policyEngine = "kyverno-resource-mutating-webhook-cfg"

// TestPolicyEngines runs webhooks and policies as Kyverno and Gatekeeper have them.
func TestPolicyEngines(t *testing.T) {
	c := start(t, setup{})
	ns := c.namespace("shop", nil, nil)
	t.Run("a later webhook changes the pod", func(t *testing.T) {
		c := c.on(t)
		c.mutate(t, `[{"op":"add","path":"/metadata/labels/team","value":"a"},
			{"op":"add","path":"/spec/containers/0/env","value":[{"name":"TEAM","value":"a"}]}]`)
		p := c.admitted(pod(ns, "changed", requesting()))
		if p.Labels["team"] != "a" || len(vips(p, "redis.example.com")) != 1 {
			t.Errorf("labels %v, host aliases %v", p.Labels, p.Spec.HostAliases)
		}
	})
	t.Run("a later webhook requests TLS, so redis-tls is not called", func(t *testing.T) {
		c := c.on(t)
		c.mutate(t, `[{"op":"add","path":"/metadata/annotations/redis-tls~1host","value":"redis.example.com"}]`)
		c.refused(pod(ns, "late", nil), "redis-tls-guard", "the redis-tls webhook did not admit it")
	})
	t.Run("a MutatingAdmissionPolicy requests TLS", func(t *testing.T) {
		c := c.on(t)
		c.run(documented(t, "integrations.md", "Kyverno and Gatekeeper")[1])
		team := c.namespace("by-policy", map[string]string{"team": "payments"}, nil)
		c.eventually("the policy to take effect", func(context.Context) error {
			p, _, err := c.create(pod(team, "p", nil), client.DryRunAll)
			if err == nil && len(vips(p, "redis.example.com")) != 1 {
				err = errors.New("no VIP")
			}
			return err
		})
	})
	t.Run("a policy refuses host aliases of others", func(t *testing.T) {
		c := c.on(t)
		c.run(documented(t, "integrations.md", "Kyverno and Gatekeeper")[0])
		c.eventuallyRefused(func() *corev1.Pod {
			own := pod(ns, "aliases", nil)
			own.Spec.HostAliases = []corev1.HostAlias{{IP: "192.0.2.1", Hostnames: []string{"a.example.com"}}}
			return own
		}, "no-host-aliases")
		c.admitted(pod(ns, "requests", requesting()))
		forged := pod(ns, "forged", nil)
		forged.Labels = map[string]string{injected: "true"}
		c.refused(forged, "redis-tls-guard")
	})
	t.Run("a policy reserves mesh objects", func(t *testing.T) { testReservedObjects(c.on(t)) })
}

// testReservedObjects applies the documented policy, which allows the controller to create Istio's objects, and nobody
// else.
func testReservedObjects(c *cluster) {
	policy := documented(c.t, "integrations.md", "Kyverno and Gatekeeper")[2]
	account := "system:serviceaccount:redis-tls:redis-tls-webhook"
	if !strings.Contains(policy, account) {
		c.t.Fatalf("the policy does not name %s:\n%s", account, policy)
	}
	c.run(strings.ReplaceAll(policy, account, "system:serviceaccount:"+c.release.Namespace+":redis-tls-webhook"))
	ns := c.namespace("reserved", nil, nil)
	c.eventually("the policy to take effect", func(ctx context.Context) error {
		entry := &networkingv1.ServiceEntry{ObjectMeta: metav1Name("theirs"), Spec: networking.ServiceEntry{
			Hosts: []string{"theirs.example.com"},
			Ports: []*networking.ServicePort{{Number: 80, Name: "http", Protocol: "HTTP"}},
		}}
		entry.Namespace = ns
		err := c.Client.Create(ctx, entry, client.DryRunAll)
		if err == nil || !strings.Contains(err.Error(), "reserved-mesh-objects") {
			return errors.Join(err, errors.New("not refused by the policy"))
		}
		return nil
	})
	c.admitted(pod(ns, "p", requesting()))
	c.waitForObjects(ns, 1, 1)
}

// mutate runs a webhook that patches every new pod, until the test ends.
func (c *cluster) mutate(t *testing.T, patch string) {
	t.Helper()
	if !json.Valid([]byte(patch)) {
		t.Fatalf("no JSON: %s", patch)
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		review := admissionv1.AdmissionReview{}
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = &admissionv1.AdmissionResponse{
			UID: review.Request.UID, Allowed: true,
			Patch: []byte(patch), PatchType: ptr.To(admissionv1.PatchTypeJSONPatch),
		}
		review.Request = nil
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(server.Close)
	configuration := &registrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1Name(policyEngine),
		Webhooks: []registrationv1.MutatingWebhook{{
			Name:                    "mutate.kyverno.svc",
			AdmissionReviewVersions: []string{"v1"},
			SideEffects:             ptr.To(registrationv1.SideEffectClassNone),
			ReinvocationPolicy:      ptr.To(registrationv1.IfNeededReinvocationPolicy),
			FailurePolicy:           ptr.To(registrationv1.Ignore), // the API server calls it for a while after the test
			ClientConfig: registrationv1.WebhookClientConfig{
				URL:      &server.URL,
				CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
			},
			Rules: []registrationv1.RuleWithOperations{{
				Operations: []registrationv1.OperationType{registrationv1.Create},
				Rule:       registrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
		}},
	}
	c.must(c.Client.Create(t.Context(), configuration))
	t.Cleanup(func() {
		if err := c.Client.Delete(context.Background(), configuration); err != nil {
			t.Error(err)
		}
	})
	c.eventually("the API server to call the webhook", func(context.Context) error {
		probe := pod("default", "probe", map[string]string{"a": "b"})
		probe.Labels = map[string]string{"a": "b"}
		p, _, err := c.create(probe, client.DryRunAll)
		if err != nil && !strings.Contains(err.Error(), "redis-tls-guard") {
			return err
		}
		if err == nil && p.Labels["team"] == "" {
			return errors.New("the pod is unchanged")
		}
		return nil
	})
}
