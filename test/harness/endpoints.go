package harness

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// describeEndpoint prepares an EndpointSlice with this replica only, so that replicas do not change each other's.
func (w *Webhook) describeEndpoint(name string) error {
	ports := map[string]int32{}
	for _, p := range w.service.Spec.Ports {
		target, err := w.container.port(p.TargetPort.IntVal, p.TargetPort.StrVal)
		if err != nil {
			return fmt.Errorf("service %s: %w", w.service.Name, err)
		}
		ports[p.Name] = target
	}
	w.slice = endpointSlice(w.service.Namespace, w.service.Name, name, w.Address, ports)
	return nil
}

// publish adds the replica to its Service.
func (w *Webhook) publish(ctx context.Context) error {
	err := w.plane.Client.Create(ctx, w.slice.DeepCopy())
	if err != nil && !apierrors.IsAlreadyExists(err) { // it exists if the replica was killed before
		return err
	}
	return w.plane.writeEndpoints(ctx, w.service.Namespace, w.service.Name)
}

// withdraw removes the replica from its Service.
func (w *Webhook) withdraw(ctx context.Context) error {
	if err := w.plane.Client.Delete(ctx, w.slice.DeepCopy()); client.IgnoreNotFound(err) != nil {
		return err
	}
	return w.plane.writeEndpoints(ctx, w.service.Namespace, w.service.Name)
}

// writeEndpoints makes the Endpoints of a Service those of its EndpointSlices, as the endpoint controller does. The API
// server of Kubernetes 1.33 and older finds a webhook by its Endpoints (k8s.io/apiserver/pkg/util/proxy).
func (c *ControlPlane) writeEndpoints(ctx context.Context, namespace, service string) error {
	c.endpoints.Lock()
	defer c.endpoints.Unlock()
	found := &discoveryv1.EndpointSliceList{}
	err := c.Client.List(
		ctx, found, client.InNamespace(namespace), client.MatchingLabels{discoveryv1.LabelServiceName: service},
	)
	if err != nil {
		return err
	}
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Endpoints"))
	o.SetNamespace(namespace)
	o.SetName(service)
	if len(found.Items) == 0 {
		return client.IgnoreNotFound(c.Client.Delete(ctx, o))
	}
	var subsets []any
	for _, slice := range found.Items {
		var ports []any
		for _, p := range slice.Ports {
			ports = append(ports, map[string]any{"name": *p.Name, "port": int64(*p.Port), "protocol": string(*p.Protocol)})
		}
		address := map[string]any{"ip": slice.Endpoints[0].Addresses[0]}
		subsets = append(subsets, map[string]any{"addresses": []any{address}, "ports": ports})
	}
	o.Object["subsets"] = subsets
	return c.Client.Apply(
		ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(fieldManager), client.ForceOwnership,
	)
}

func endpointSlice(
	namespace, service, name string, address netip.Addr, ports map[string]int32,
) *discoveryv1.EndpointSlice {
	ready, tcp := true, corev1.ProtocolTCP
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name,
			Labels: map[string]string{
				discoveryv1.LabelServiceName: service,
				discoveryv1.LabelManagedBy:   "redis-tls-test-harness",
			},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{address.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		}},
	}
	for name, port := range ports {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &name, Port: &port, Protocol: &tcp})
	}
	return slice
}
