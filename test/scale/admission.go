package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/workqueue"
)

// webhookPort is the chart's container port.
const webhookPort = 9443

// reviews sends reviews at a fixed rate to the replica, whether it has answered the last ones or not. Their pods are
// like the existing ones, in any of their namespaces.
func (c *cluster) reviews(ctx context.Context, n, rate int, f filling) (times, error) {
	client, url, err := c.caller(ctx)
	if err != nil {
		return nil, err
	}
	bodies := make([][]byte, min(n, f.namespaces))
	for i := range bodies {
		if bodies[i], err = review(numbered("team", rand.IntN(f.namespaces)), f.pods+i); err != nil {
			return nil, err
		}
	}
	for i := range min(100, n) { // the connection and the pools
		if _, err := send(ctx, client, url, bodies[i%len(bodies)]); err != nil {
			return nil, err
		}
	}
	took, errs := make(times, n), make([]error, n)
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	var all sync.WaitGroup
	for i := range n {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
		all.Go(func() { took[i], errs[i] = send(ctx, client, url, bodies[i%len(bodies)]) })
	}
	all.Wait()
	return took, errors.Join(errs...)
}

// caller is a client like the API server's, and the URL in the MutatingWebhookConfiguration.
func (c *cluster) caller(ctx context.Context) (*http.Client, string, error) {
	found, err := c.client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(
		ctx, "00-redis-tls", metav1.GetOptions{},
	)
	if err != nil {
		return nil, "", err
	}
	to := found.Webhooks[0].ClientConfig
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(to.CABundle)
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: roots, ServerName: to.Service.Name + "." + to.Service.Namespace + ".svc"},
		MaxIdleConnsPerHost: 100,
	}
	return &http.Client{Transport: transport, Timeout: 10 * time.Second},
		"https://" + netip.AddrPortFrom(c.webhook.Address, webhookPort).String() + *to.Service.Path, nil
}

// review is the AdmissionReview of a new pod.
func review(namespace string, i int) ([]byte, error) {
	pod, err := json.Marshal(podOf(namespace, i))
	if err != nil {
		return nil, err
	}
	gvk, dryRun := metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, false
	return json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "0df28fbd-5f5f-11e8-bc74-36e6bb280816", Kind: gvk, RequestKind: &gvk, Namespace: namespace,
			Resource:  metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			Operation: admissionv1.Create, DryRun: &dryRun, Object: runtime.RawExtension{Raw: pod},
		},
	})
}

// send returns the time until the answer, which must be a patch.
func send(ctx context.Context, client *http.Client, url string, body []byte) (time.Duration, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	begin := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	took := time.Since(begin)
	if err != nil {
		return 0, err
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(answer, &review); err != nil || review.Response == nil || !review.Response.Allowed ||
		len(review.Response.Patch) == 0 {
		return 0, fmt.Errorf("a review was answered with %s: %s", response.Status, answer)
	}
	return took, nil
}

// connections is the number of connections for the dry runs, which are sent one after the other on each.
const connections = 4

// creations creates pods like the existing ones through the API server, as dry runs.
func (c *cluster) creations(ctx context.Context, n int, f filling) (times, error) {
	took, errs := make(times, n), make([]error, n)
	workqueue.ParallelizeUntil(ctx, connections, n, func(i int) {
		pod := podOf(numbered("team", rand.IntN(f.namespaces)), f.pods+i)
		begin := time.Now()
		errs[i] = c.inject(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		took[i] = time.Since(begin)
	})
	return took, errors.Join(append(errs, ctx.Err())...)
}
