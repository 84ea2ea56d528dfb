package harness

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	if apierrors.IsAlreadyExists(err) { // it was killed before
		return nil
	}
	return err
}

// withdraw removes the replica from its Service.
func (w *Webhook) withdraw(ctx context.Context) error {
	return client.IgnoreNotFound(w.plane.Client.Delete(ctx, w.slice.DeepCopy()))
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
