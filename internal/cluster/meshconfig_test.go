package cluster

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
)

func meshConfig(text string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio"},
		Data:       map[string]string{"mesh": text},
	}
}

// TestMeshConfigurationSaysWhichNamespacesAreIgnored: no restart is needed after a change of the ConfigMap or of the
// namespace's labels, and a controller's pass follows.
func TestMeshConfigurationSaysWhichNamespacesAreIgnored(t *testing.T) {
	const selectors = "discoverySelectors: [{matchLabels: {mesh: in}}, {matchLabels: {mesh: also}}]"
	const selected = "the discoverySelectors of ConfigMap istio-system/istio (mesh=in or mesh=also)"
	label := func(value string) *corev1.Namespace {
		return named("shop", func(n *corev1.Namespace) { n.Labels = map[string]string{"mesh": value} })
	}
	w := newWorld(t)
	w.serve(true)
	w.pods.Add(clustertest.Pod(t, "shop", "cart", "r1", "a", clustertest.ByName))
	w.namespaces.Add(label("off"))
	w.start()
	w.fill()
	for _, tc := range []struct {
		name    string
		happens func()
		want    string
	}{
		{
			name:    "a configuration without selectors",
			happens: func() { w.configs.Add(meshConfig("rootNamespace: istio-system")) },
		},
		{
			name: "selectors that do not select the namespace",
			happens: func() {
				w.configs.Modify(meshConfig(selectors))
			},
			want: selected,
		},
		{name: "a label that is selected", happens: func() { w.namespaces.Modify(label("also")) }},
		{name: "a label that is not selected", happens: func() { w.namespaces.Modify(label("off")) }, want: selected},
		{name: "a configuration that is not YAML", happens: func() { w.configs.Modify(meshConfig("{")) }},
		{
			name:    "the selectors again",
			happens: func() { w.configs.Modify(meshConfig(selectors)) },
			want:    selected,
		},
		{name: "no configuration", happens: func() { w.configs.Delete(meshConfig("")) }},
	} {
		before := w.notifications("shop")
		tc.happens()
		w.eventually(tc.name+": the snapshot", 0, func() bool { return w.view.Snapshot("shop").IgnoredBy == tc.want })
		w.eventually(tc.name+": a pass", 0, func() bool { return w.notifications("shop") > before })
	}
}
