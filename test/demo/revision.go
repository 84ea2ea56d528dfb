package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

// nextRevision shows that a pod with another request for the same host gets its own objects, and that those of the
// running pod do not change.
func (d *demo) nextRevision(ctx context.Context) error {
	e := d.examples[len(d.examples)-1]
	host := e.template.Annotations["redis-tls/host"]
	d.title("Another request for the same host: its own VIP and objects, and nothing changes for the running pod")
	before, err := d.entries(ctx, e.namespace)
	if err != nil {
		return err
	}
	manifest := pod("next", fmt.Sprintf("\n    redis-tls/host: %s\n    redis-tls/target-port: \"16333\"", host))
	d.yaml(manifest)
	_, stderr, err := d.kubectl(ctx, strings.NewReader(manifest), "create", "--namespace="+e.namespace, "-f", "-")
	if err != nil {
		return fmt.Errorf("creating the pod: %s", stderr)
	}
	var after map[string]string
	err = harness.Eventually(ctx, time.Minute, "the pod's own ServiceEntry", func(ctx context.Context) (err error) {
		if after, err = d.entries(ctx, e.namespace); err == nil && len(after) != len(before)+1 {
			err = fmt.Errorf("%d ServiceEntries", len(after))
		}
		return err
	})
	if err != nil {
		return err
	}
	for name, version := range before {
		if after[name] != version {
			return fmt.Errorf("ServiceEntry %s changed: resourceVersion %s, now %q", name, version, after[name])
		}
	}
	columns := []string{
		"NAME:.metadata.name", "VIP:.spec.addresses[0]", "TARGET:.spec.ports[?(@.number==6379)].targetPort",
		"GENERATION:.metadata.generation",
	}
	_, _, err = d.kubectl(ctx, nil, "get", "serviceentries", "--namespace="+e.namespace,
		"--output=custom-columns="+strings.Join(columns, ","))
	return err
}

// entries are the resourceVersions of the ServiceEntries of the namespace, by name.
func (d *demo) entries(ctx context.Context, namespace string) (map[string]string, error) {
	var list networkingv1.ServiceEntryList
	if err := d.plane.Client.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	versions := map[string]string{}
	for _, entry := range list.Items {
		versions[entry.Name] = entry.ResourceVersion
	}
	return versions, nil
}
