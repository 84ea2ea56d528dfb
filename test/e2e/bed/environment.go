package bed

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// environment resolves the variables of a container as a kubelet does: values, fields of the pod, and resources. Each
// may refer to variables before it.
func (p *Pod) environment(c *corev1.Container) ([]string, error) {
	var env []string
	for _, e := range c.Env {
		value := expand(e.Value, env)
		var err error
		if from := e.ValueFrom; from != nil {
			switch {
			case from.FieldRef != nil:
				value, err = p.field(from.FieldRef.FieldPath)
			case from.ResourceFieldRef != nil:
				value, err = resource(c, from.ResourceFieldRef)
			default:
				err = fmt.Errorf("the bed does not support the source %v", from)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("container %s, variable %s: %w", c.Name, e.Name, err)
		}
		env = append(env, e.Name+"="+value)
	}
	return env, nil
}

var keyedField = regexp.MustCompile(`^metadata\.(labels|annotations)\['([^']+)'\]$`)

func (p *Pod) field(path string) (string, error) {
	if m := keyedField.FindStringSubmatch(path); m != nil {
		return map[string]map[string]string{"labels": p.Labels, "annotations": p.Annotations}[m[1]][m[2]], nil
	}
	switch path {
	case "metadata.name":
		return p.Name, nil
	case "metadata.namespace":
		return p.Namespace, nil
	case "metadata.uid":
		return string(p.UID), nil
	case "metadata.labels":
		return formatMap(p.Labels), nil
	case "metadata.annotations":
		return formatMap(p.Annotations), nil
	case "spec.serviceAccountName":
		return p.Spec.ServiceAccountName, nil
	case "spec.nodeName":
		return p.Spec.NodeName, nil
	case "status.hostIP":
		return p.Status.HostIP, nil
	case "status.podIP":
		return p.Status.PodIP, nil
	}
	return "", fmt.Errorf("the bed does not support field %q", path)
}

// resource returns a limit, rounded up to the divisor as in k8s.io/component-helpers/resource.
func resource(c *corev1.Container, ref *corev1.ResourceFieldSelector) (string, error) {
	switch ref.Resource {
	case "limits.cpu":
		return fmt.Sprint(c.Resources.Limits.Cpu().Value()), nil
	case "limits.memory":
		return fmt.Sprint(c.Resources.Limits.Memory().Value()), nil
	}
	return "", fmt.Errorf("the bed does not support resource %q", ref.Resource)
}

var reference = regexp.MustCompile(`\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)`)

// expand replaces $(NAME) by the variable. As Kubernetes documents, references to unknown variables stay.
func expand(text string, env []string) string {
	return reference.ReplaceAllStringFunc(text, func(found string) string {
		name := found[2 : len(found)-1]
		for i := len(env) - 1; i >= 0; i-- {
			if value, ok := strings.CutPrefix(env[i], name+"="); ok {
				return value
			}
		}
		return found
	})
}

func expandAll(args, env []string) []string {
	var expanded []string
	for _, a := range args {
		expanded = append(expanded, expand(a, env))
	}
	return expanded
}
