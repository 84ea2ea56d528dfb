package live

import (
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/redis-tls/redis-tls/internal/mesh"
)

// Denied is a request that the user has no right for. Findings that need it are not known.
type Denied struct {
	// Verb is that of the request, as in "list".
	Verb string `json:"verb"`
	// Group is the API group of the resource. It is empty for the core group.
	Group string `json:"group,omitempty"`
	// Resource is the plural of the kind, as in "serviceentries".
	Resource string `json:"resource"`
	// Namespace is that of the request. It is empty for all namespaces and for objects that have none.
	Namespace string `json:"namespace,omitempty"`
	// Name is that of the object of a "get".
	Name string `json:"name,omitempty"`
}

// String returns the request as in "list serviceentries.networking.istio.io in all namespaces".
func (d Denied) String() string {
	text := d.Verb + " " + schema.GroupResource{Group: d.Group, Resource: d.Resource}.String()
	if d.Name != "" {
		text += " " + d.Name
	}
	switch {
	case d.Namespace != "":
		text += " in namespace " + d.Namespace
	case d.Verb == "list":
		text += " in all namespaces"
	}
	return text
}

// record has what could not be read.
type record struct {
	mu     sync.Mutex
	denied []Denied
	absent []string // API groups
}

// failed records an error of the request. It returns the error if it is neither a missing right nor a missing kind.
func (r *record) failed(err error, request Denied) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case apierrors.IsForbidden(err):
		if !slices.Contains(r.denied, request) {
			r.denied = append(r.denied, request)
		}
		return nil
	case request.Verb == "list" && (apierrors.IsNotFound(err) || meta.IsNoMatchError(err)):
		if !slices.Contains(r.absent, request.Group) {
			r.absent = append(r.absent, request.Group)
		}
		return nil
	}
	return err
}

// Denied returns the requests so far that the user has no right for, sorted.
func (c *Cluster) Denied() []Denied {
	c.record.mu.Lock()
	defer c.record.mu.Unlock()
	denied := slices.Clone(c.record.denied)
	slices.SortFunc(denied, func(a, b Denied) int { return strings.Compare(a.String(), b.String()) })
	return denied
}

// IsDenied reports whether a list of the resource was denied: in the namespace, or of all namespaces if it is empty.
func (c *Cluster) IsDenied(group, resource, namespace string) bool {
	return slices.ContainsFunc(c.Denied(), func(d Denied) bool {
		return d.Verb == "list" && d.Group == group && d.Resource == resource && d.Namespace == namespace
	})
}

// Absent returns the API groups with a kind that the API server does not serve, sorted: "networking.istio.io",
// "security.istio.io", "cert-manager.io".
func (c *Cluster) Absent() []string {
	c.record.mu.Lock()
	defer c.record.mu.Unlock()
	return slices.Sorted(slices.Values(c.record.absent))
}

// presence says whether the API server serves the kinds of a group, as far as the user may know.
func (c *Cluster) presence(group string) mesh.Presence {
	switch {
	case slices.Contains(c.Absent(), group):
		return mesh.Absent
	case slices.ContainsFunc(c.Denied(), func(d Denied) bool { return d.Group == group }):
		return mesh.Unknown
	}
	return mesh.Present
}
