package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// connections is the number of connections to a peer. Enough to keep two processors busy.
const connections = 16

// endpoint is where the API server sends the reviews of one webhook.
type endpoint struct {
	client *http.Client
	url    string
}

// findEndpoint returns the endpoint of the webhook whose name and path have the given text, as the API server finds it:
// by the Service of the registration and its EndpointSlice.
func findEndpoint(ctx context.Context, c client.Client, configuration, text string) (*endpoint, error) {
	found := &registrationv1.MutatingWebhookConfiguration{}
	if err := c.Get(ctx, client.ObjectKey{Name: configuration}, found); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(found.Webhooks, func(w registrationv1.MutatingWebhook) bool {
		to := w.ClientConfig.Service
		return to != nil && strings.Contains(w.Name+" "+ptr.Deref(to.Path, ""), text)
	})
	if i < 0 {
		return nil, fmt.Errorf("%s has no webhook with %q in its name or path", configuration, text)
	}
	to := found.Webhooks[i].ClientConfig
	address, err := resolve(ctx, c, to.Service)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(to.CABundle) {
		return nil, fmt.Errorf("webhook %s has no CA bundle", found.Webhooks[i].Name)
	}
	transport := &http.Transport{ // HTTP/1.1, as the API server uses for a Service
		TLSClientConfig: &tls.Config{
			RootCAs:    roots,
			ServerName: to.Service.Name + "." + to.Service.Namespace + ".svc",
			NextProtos: []string{"http/1.1"},
		},
		MaxIdleConnsPerHost: connections,
	}
	return &endpoint{
		client: &http.Client{Transport: transport, Timeout: 10 * time.Second},
		url:    "https://" + address + ptr.Deref(to.Service.Path, ""),
	}, nil
}

// resolve returns the address and port of a Service's endpoint.
func resolve(ctx context.Context, c client.Client, to *registrationv1.ServiceReference) (string, error) {
	service := &corev1.Service{}
	if err := c.Get(ctx, client.ObjectKey{Namespace: to.Namespace, Name: to.Name}, service); err != nil {
		return "", err
	}
	slices := &discoveryv1.EndpointSliceList{}
	if err := c.List(ctx, slices, client.InNamespace(to.Namespace),
		client.MatchingLabels{discoveryv1.LabelServiceName: to.Name}); err != nil {
		return "", err
	}
	for _, port := range service.Spec.Ports {
		if port.Port != ptr.Deref(to.Port, 443) {
			continue
		}
		for _, s := range slices.Items {
			for _, p := range s.Ports {
				if ptr.Deref(p.Name, "") == port.Name && len(s.Endpoints) > 0 {
					return net.JoinHostPort(s.Endpoints[0].Addresses[0], fmt.Sprint(*p.Port)), nil
				}
			}
		}
	}
	return "", fmt.Errorf("service %s/%s has no endpoint", to.Namespace, to.Name)
}

// send returns the answer to a review.
func (e *endpoint) send(ctx context.Context, review []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(review))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := e.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", e.url, response.Status, answer)
	}
	return answer, err
}
