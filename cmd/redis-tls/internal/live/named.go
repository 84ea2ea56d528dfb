package live

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// Secret reads one Secret. It is Unknown if the user may not read it. Call it only if the user asked for Secrets.
func (c *Cluster) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, mesh.Presence, error) {
	secret := &corev1.Secret{}
	presence, err := c.get(ctx, "secrets", namespace, name, secret)
	return secret, presence, err
}

// ConfigMap reads one ConfigMap. It is Unknown if the user may not read it.
func (c *Cluster) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, mesh.Presence, error) {
	configMap := &corev1.ConfigMap{}
	presence, err := c.get(ctx, "configmaps", namespace, name, configMap)
	return configMap, presence, err
}

func (c *Cluster) get(
	ctx context.Context, resource, namespace, name string, into client.Object,
) (mesh.Presence, error) {
	err := c.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, into)
	switch {
	case err == nil:
		return mesh.Present, nil
	case apierrors.IsNotFound(err):
		return mesh.Absent, nil
	}
	return mesh.Unknown, c.record.failed(err, Denied{Verb: "get", Resource: resource, Namespace: namespace, Name: name})
}

// Events returns the Events of the namespace that redis-tls wrote, or that report a pod which it refused, the oldest
// first.
func (c *Cluster) Events(ctx context.Context, namespace string) ([]eventsv1.Event, error) {
	var list eventsv1.EventList
	if err := c.client.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, c.record.failed(err, Denied{
			Verb: "list", Group: eventsv1.GroupName, Resource: "events", Namespace: namespace,
		})
	}
	events := slices.DeleteFunc(list.Items, func(e eventsv1.Event) bool {
		return e.ReportingController != origination.FieldManager && !strings.Contains(e.Note, refusal)
	})
	slices.SortStableFunc(events, func(a, b eventsv1.Event) int { return LastSeen(&a).Compare(LastSeen(&b).Time) })
	return events, nil
}

// refusal is the domain of the webhook's names, which the API server's message about a refused pod has.
const refusal = ".redis-tls.internal"

// LastSeen returns the time of the last Event of a series.
func LastSeen(e *eventsv1.Event) *metav1.MicroTime {
	if e.Series != nil {
		return &e.Series.LastObservedTime
	}
	if e.EventTime.IsZero() {
		return &metav1.MicroTime{Time: e.CreationTimestamp.Time}
	}
	return &e.EventTime
}
