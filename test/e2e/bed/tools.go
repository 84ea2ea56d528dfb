package bed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// Given is the configuration that istiod sends a sidecar, each resource in protobuf's JSON.
type Given struct {
	Clusters, Listeners, Routes, NameTable []json.RawMessage
}

// Given requests the configuration of an admitted pod's sidecar from istiod. The pod need not run. The addresses are
// those of the pod: a second one of the other family makes it dual-stack.
func (b *Bed) Given(
	ctx context.Context,
	pod *corev1.Pod,
	address netip.Addr,
	dnsCapture bool,
	further ...netip.Addr,
) (*Given, error) {
	addresses := address.String()
	for _, a := range further {
		addresses += "," + a.String()
	}
	metadata := map[string]any{
		"NAMESPACE": pod.Namespace, "CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.31.1", "LABELS": pod.Labels,
		"INTERCEPTION_MODE": "REDIRECT", "DNS_CAPTURE": fmt.Sprint(dnsCapture), "INSTANCE_IPS": addresses,
	}
	content, err := json.Marshal(metadata)
	if err != nil {
		return nil, err
	}
	out, err := tool(ctx, nil, b.components.adsdump,
		"-address="+netip.AddrPortFrom(b.fabric.loopback, 15010).String(), "-metadata="+string(content),
		fmt.Sprintf("-node=sidecar~%s~%s.%s~%s.svc.cluster.local", address, pod.Name, pod.Namespace, pod.Namespace))
	if err != nil {
		return nil, err
	}
	g := &Given{}
	return g, json.Unmarshal(out, g)
}

// Analyze runs Istio's analyzers over objects and returns their messages.
func (b *Bed) Analyze(ctx context.Context, objects ...client.Object) ([]map[string]any, error) {
	var documents bytes.Buffer
	for _, o := range objects {
		gvk, err := b.Client.GroupVersionKindFor(o)
		if err != nil {
			return nil, err
		}
		o.GetObjectKind().SetGroupVersionKind(gvk)
		document, err := yaml.Marshal(o)
		if err != nil {
			return nil, err
		}
		documents.WriteString("---\n")
		documents.Write(document)
	}
	out, err := tool(ctx, &documents, b.components.analyze)
	if err != nil {
		return nil, err
	}
	var messages []map[string]any
	return messages, json.Unmarshal(out, &messages)
}

// tool returns the JSON value that a tool of test/mesh prints. It skips lines before and after, because Istio's
// packages log to standard output too.
func tool(ctx context.Context, stdin *bytes.Buffer, path string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if stdin != nil {
		cmd.Stdin = stdin
	}
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", path, err, errs.String())
	}
	for rest := out.Bytes(); len(rest) > 0; {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		if len(line) > 0 && (line[0] == '{' || line[0] == '[') {
			var value json.RawMessage
			if err := json.NewDecoder(bytes.NewReader(rest)).Decode(&value); err != nil {
				return nil, fmt.Errorf("%s must print JSON: %w", path, err)
			}
			return value, nil
		}
		rest = after
	}
	return nil, fmt.Errorf("%s must print JSON, got %q", path, out.String())
}
