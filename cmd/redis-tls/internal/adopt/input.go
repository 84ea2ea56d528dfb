package adopt

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/preview"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/workload"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// object is an object of the input with its Go type.
type object[T metav1.Object] struct {
	preview.Object
	typed T
}

// template is a pod template of the input, or a pod.
type template struct {
	preview.Object
	path  []any // of the template in the object
	pod   corev1.Pod
	texts []string // what the app's configuration says
	// opaque is set if a part of the configuration is in Secrets that cannot be read.
	opaque bool
}

// input is what Find reads.
type input struct {
	templates []*template
	services  []object[*corev1.Service]
	entries   []object[*networkingv1.ServiceEntry]
	rules     []object[*networkingv1.DestinationRule]
	routes    []object[*networkingv1.VirtualService]
	sidecars  []object[*networkingv1.Sidecar]
}

// read sorts the objects by kind. It leaves out managed objects, and names those that it cannot read.
func read(objects []preview.Object) (in input, left []Left) {
	for _, o := range objects {
		if managed(o.Value) {
			continue
		}
		var err error
		group, _, _ := strings.Cut(o.APIVersion, "/")
		switch group + "/" + o.Kind {
		case "v1/Service":
			err = add(&in.services, o)
		case "networking.istio.io/ServiceEntry":
			err = add(&in.entries, o)
		case "networking.istio.io/DestinationRule":
			err = add(&in.rules, o)
		case "networking.istio.io/VirtualService":
			err = add(&in.routes, o)
		case "networking.istio.io/Sidecar":
			err = add(&in.sidecars, o)
		}
		if err != nil {
			left = append(left, leave(o, "cannot be read: "+err.Error()))
		}
		for _, w := range workload.Of(o.APIVersion, o.Kind, o.Value) {
			if value := preview.Lookup(o.Value, w.Template...); value != nil {
				if pod, err := preview.Convert[corev1.Pod](value); err == nil {
					in.templates = append(in.templates, &template{Object: o, path: w.Template, pod: pod})
				}
			}
		}
	}
	for _, t := range in.templates {
		t.configure(objects)
	}
	return in, left
}

func add[T metav1.Object](list *[]object[T], o preview.Object) error {
	typed, err := preview.Convert[T](o.Value)
	if err != nil {
		return err
	}
	typed.SetNamespace(o.Namespace)
	*list = append(*list, object[T]{o, typed})
	return nil
}

// name returns "Kind/name".
func name(o preview.Object) string { return o.Kind + "/" + o.Name }

// podTexts returns the strings by which a pod configures its app. The annotations of redis-tls name what it dials too.
func podTexts(pod *corev1.Pod) (texts []string) {
	for _, key := range slices.Sorted(maps.Keys(pod.Annotations)) {
		if strings.Contains(key, "redis-tls/") {
			texts = append(texts, pod.Annotations[key])
		}
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		texts = slices.Concat(texts, c.Command, c.Args)
		for _, e := range c.Env {
			texts = append(texts, e.Value)
		}
	}
	return texts
}

// configure reads the configuration of the app: the pod itself, and the ConfigMaps and readable Secrets of the input
// that the pod uses.
func (t *template) configure(objects []preview.Object) {
	t.texts = podTexts(&t.pod)
	used := configsOf(&t.pod)
	for _, o := range objects {
		if o.APIVersion != "v1" || o.Namespace != t.Namespace || !used[name(o)] {
			continue
		}
		for _, field := range []string{"data", "stringData"} {
			data, _ := o.Value[field].(map[string]any)
			if o.Kind == "Secret" && field == "data" && len(data) > 0 {
				continue // base64
			}
			for _, key := range slices.Sorted(maps.Keys(data)) {
				t.texts = append(t.texts, fmt.Sprint(data[key]))
			}
			if o.Kind == "ConfigMap" || len(data) > 0 {
				delete(used, name(o))
			}
		}
	}
	for config := range used {
		t.opaque = t.opaque || strings.HasPrefix(config, "Secret/")
	}
}

// configsOf returns the ConfigMaps and Secrets that the pod uses, as "Kind/name".
func configsOf(pod *corev1.Pod) map[string]bool {
	used := map[string]bool{}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, from := range c.EnvFrom {
			if from.ConfigMapRef != nil {
				used["ConfigMap/"+from.ConfigMapRef.Name] = true
			}
			if from.SecretRef != nil {
				used["Secret/"+from.SecretRef.Name] = true
			}
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil {
				used["ConfigMap/"+e.ValueFrom.ConfigMapKeyRef.Name] = true
			}
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				used["Secret/"+e.ValueFrom.SecretKeyRef.Name] = true
			}
		}
	}
	for _, v := range pod.Spec.Volumes {
		if v.ConfigMap != nil {
			used["ConfigMap/"+v.ConfigMap.Name] = true
		}
		if v.Secret != nil && mountedByApp(pod, v.Name) {
			used["Secret/"+v.Secret.SecretName] = true
		}
	}
	return used
}

// mountedByApp reports whether a container other than the sidecar mounts the volume.
func mountedByApp(pod *corev1.Pod, volume string) bool {
	return slices.ContainsFunc(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers), func(c corev1.Container) bool {
		return c.Name != "istio-proxy" && slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
			return m.Name == volume
		})
	})
}

// mentions reports whether the app's configuration has the host or the address, and not only a longer one.
func (t *template) mentions(host string) bool {
	for _, text := range t.texts {
		for at := 0; ; at++ {
			i := strings.Index(text[at:], host)
			if i < 0 {
				break
			}
			at += i
			before, after := text[:at], text[at+len(host):]
			if (before == "" || !inName(before[len(before)-1])) &&
				(after == "" || !inName(after[0]) || after[0] == '.' && (len(after) == 1 || !inName(after[1]))) {
				return true
			}
		}
	}
	return false
}

// inName reports whether the character may be one of a host name.
func inName(c byte) bool {
	return c == '.' || c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// meshed reports whether the pod may have a sidecar.
func (t *template) meshed() bool {
	value := t.pod.Labels["sidecar.istio.io/inject"]
	if value == "" {
		value = t.pod.Annotations["sidecar.istio.io/inject"]
	}
	return value != "false" && !t.pod.Spec.HostNetwork
}

// matchesHost reports whether the host of a rule applies to a host of the mesh.
func matchesHost(rule, host string) bool {
	if suffix, wildcard := strings.CutPrefix(rule, "*"); wildcard {
		return strings.HasSuffix(host, suffix)
	}
	return rule == host
}

// exported reports whether an object of one namespace applies to sidecars of another.
func exported(o metav1.Object, namespace string) bool {
	to := mesh.ExportedTo(o)
	return o.GetNamespace() == namespace || slices.Contains(to, mesh.Everywhere) || slices.Contains(to, namespace)
}
