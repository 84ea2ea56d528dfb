package integration

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// installOptions returns the options of every webhook here: it is built with the race detector.
func installOptions() harness.WebhookOptions { return harness.WebhookOptions{Race: true} }

// originations reads the request in the pod's status as "host:port/CA Secret", one for each instance, sorted.
func originations(t *testing.T, p *corev1.Pod) string {
	t.Helper()
	value, ok := p.Annotations[statusKey]
	if !ok {
		return ""
	}
	var status struct {
		Version string
		Request map[string]string
	}
	if err := json.Unmarshal([]byte(value), &status); err != nil || status.Version != "v1" {
		t.Fatalf("%s: %v", value, err)
	}
	var texts []string
	for key := range status.Request {
		instance, name, _ := strings.Cut(key, "redis-tls/")
		valueOf := func(name string) string { return status.Request[instance+"redis-tls/"+name] }
		if name == "host" || name == "addresses" && valueOf("host") == "" {
			texts = append(texts, status.Request[key]+":"+cmp.Or(valueOf("port"), "6379")+"/"+valueOf("ca-secret"))
		}
	}
	slices.Sort(texts)
	return strings.Join(texts, " ")
}

// admissions is the number of calls that the webhook has counted.
func (c *cluster) admissions() float64 { return c.metric("redis_tls_admissions_total") }

// metric sums the metric's samples that have all of the label pairs (`reason="Injected"`).
func (c *cluster) metric(name string, pairs ...string) (sum float64) {
	c.t.Helper()
	text, err := c.webhook.Metrics(c.t.Context())
	c.must(err)
	for line := range strings.Lines(text) {
		sample, value, found := strings.Cut(strings.TrimSpace(line), " ")
		series, labels, _ := strings.Cut(sample, "{")
		if !found || series != name {
			continue
		}
		matches := true
		for _, pair := range pairs {
			matches = matches && strings.Contains(labels, pair)
		}
		number, err := strconv.ParseFloat(value, 64)
		if matches && err == nil {
			sum += number
		}
	}
	return sum
}

func metav1Name(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

// eventuallyRefused creates such pods as a dry run until one is refused with the text. The API server needs a while to
// see that a webhook or a policy has changed.
func (c *cluster) eventuallyRefused(next func() *corev1.Pod, text string) {
	c.t.Helper()
	c.eventually("a refusal with "+text, func(context.Context) error {
		_, _, err := c.create(next(), client.DryRunAll)
		if err == nil {
			return errors.New("admitted")
		}
		if !strings.Contains(err.Error(), text) {
			return err
		}
		return nil
	})
}
