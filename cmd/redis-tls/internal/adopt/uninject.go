package adopt

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/preview"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/workload"
	"github.com/redis-tls/redis-tls/internal/origination"
	"github.com/redis-tls/redis-tls/patches"
)

// The annotations from which Istio makes volumes and mounts of the sidecar.
const (
	userVolume      = "sidecar.istio.io/userVolume"
	userVolumeMount = "sidecar.istio.io/userVolumeMount"
)

// Uninject removes from the files what the webhook and the controller wrote: the inverse of package preview. All that
// a user wrote stays.
func Uninject(files []*manifest.File) error {
	for _, file := range files {
		for _, document := range slices.Clone(file.Documents) {
			value := copied(document.Value)
			objects := preview.Objects([]*manifest.File{{Name: file.Name, Documents: []*manifest.Document{document}}}, "")
			if len(objects) == 1 && len(objects[0].Path) == 0 && managed(objects[0].Value) {
				file.Remove(document)
				continue
			}
			for _, o := range objects {
				for _, w := range workload.Of(o.APIVersion, o.Kind, o.Value) {
					if pod, ok := preview.Lookup(value, slices.Concat(o.Path, w.Template)...).(map[string]any); ok {
						revert(pod)
					}
				}
			}
			value = withoutManaged(value)
			if err := document.Rewrite(value); err != nil {
				return &manifest.Error{File: file.Name, Line: document.Line(), Err: err}
			}
		}
	}
	return nil
}

// managed reports whether the object has the label of the objects that redis-tls creates.
func managed(object map[string]any) bool {
	return preview.Lookup(object, "metadata", "labels", origination.ManagedByLabel) == origination.ManagedBy
}

// withoutManaged removes the managed objects from a List, at any depth, and the findings of the output json.
func withoutManaged(value any) any {
	object, _ := value.(map[string]any)
	items, list := object["items"].([]any)
	if kind, _ := object["kind"].(string); !list || !strings.HasSuffix(kind, "List") {
		return value
	}
	var kept []any
	for _, item := range items {
		if mapping, _ := item.(map[string]any); !managed(mapping) {
			kept = append(kept, withoutManaged(item))
		}
	}
	if object["items"] = kept; kept == nil {
		object["items"] = []any{}
	}
	delete(object, "findings")
	return object
}

// revert removes from a pod or a pod template what the webhook wrote.
func revert(pod map[string]any) {
	metadata, _ := pod["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	vips := vipsOf(annotations)
	prune(metadata, "labels", func(key string) bool {
		return len(origination.WebhookLabels(map[string]string{key: ""})) > 0
	})
	emptied := withoutEntries(annotations, func(e patches.Entry) bool { return writtenVolume.MatchString(e.Name) })
	prune(metadata, "annotations", func(key string) bool {
		return slices.Contains(origination.WebhookAnnotations, key) || slices.Contains(emptied, key)
	})
	if len(metadata) == 0 {
		delete(pod, "metadata")
	}
	spec, _ := pod["spec"].(map[string]any)
	filter(spec, "hostAliases", func(alias map[string]any) bool { return isWritten(alias, vips) })
	filter(spec, "schedulingGates", func(gate map[string]any) bool { return gate["name"] == origination.GateFirstUse })
	isVolume := func(v map[string]any) bool {
		name, _ := v["name"].(string)
		return writtenVolume.MatchString(name)
	}
	filter(spec, "volumes", isVolume)
	for _, list := range []string{"containers", "initContainers"} {
		containers, _ := spec[list].([]any)
		for _, c := range containers {
			container, _ := c.(map[string]any)
			filter(container, "volumeMounts", isVolume)
		}
	}
}

// withoutEntries removes entries from Istio's annotations, and returns the annotations that then have none.
func withoutEntries(annotations map[string]any, removed func(patches.Entry) bool) (emptied []string) {
	for _, key := range []string{userVolume, userVolumeMount} {
		text, _ := annotations[key].(string)
		rest, stay, err := patches.WithoutUserEntries(text, removed)
		if err != nil || rest == text {
			continue
		}
		if annotations[key] = rest; stay == 0 {
			emptied = append(emptied, key)
		}
	}
	return emptied
}

// writtenVolume matches the names of the volumes that the webhook adds, which end in a hash.
var writtenVolume = regexp.MustCompile(`^redis-tls-[a-z2-7]{16}$`)

// vipsOf returns the VIPs that the webhook recorded, by the names that resolve to them.
func vipsOf(annotations map[string]any) map[string][]netip.Addr {
	text, _ := annotations[origination.AnnotationVIPs].(string)
	vips, err := origination.ParseVIPs(text)
	if err != nil {
		return nil
	}
	return vips
}

// isWritten reports whether a hostAliases entry gives nothing but recorded names, and these their VIP.
func isWritten(alias map[string]any, vips map[string][]netip.Addr) bool {
	text, _ := alias["ip"].(string)
	vip, err := netip.ParseAddr(text)
	names, _ := alias["hostnames"].([]any)
	return err == nil && len(names) > 0 && !slices.ContainsFunc(names, func(name any) bool {
		host, _ := name.(string)
		return !slices.Contains(vips[host], vip)
	})
}

// prune removes keys of a mapping in parent, and the mapping if nothing else is in it.
func prune(parent map[string]any, name string, written func(key string) bool) {
	mapping, _ := parent[name].(map[string]any)
	before := len(mapping)
	for key := range mapping {
		if written(key) {
			delete(mapping, key)
		}
	}
	if before > 0 && len(mapping) == 0 {
		delete(parent, name)
	}
}

// filter removes items of a list in parent, and the list if nothing else is in it.
func filter(parent map[string]any, name string, written func(item map[string]any) bool) {
	list, ok := parent[name].([]any)
	if !ok || len(list) == 0 {
		return
	}
	kept := slices.DeleteFunc(list, func(item any) bool {
		mapping, _ := item.(map[string]any)
		return mapping != nil && written(mapping)
	})
	if parent[name] = kept; len(kept) == 0 {
		delete(parent, name)
	}
}

// copied returns a deep copy of a value of a manifest.
func copied(value any) any {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("a manifest's value: %v", err)) // it was decoded from JSON
	}
	again, err := manifest.DecodeJSON(text)
	if err != nil || !reflect.DeepEqual(again, value) {
		return value
	}
	return again
}
