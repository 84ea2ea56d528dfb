package bed

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"

	registrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/test/harness"
)

const (
	istioNamespace = "istio-system"
	// injectorConfiguration is the name in Istio's chart and the default of istiod.
	injectorConfiguration = "istio-sidecar-injector"
	// istiodPort is the port of istiod for sidecars.
	istiodPort = 15012
)

// startIstio applies Istio's charts except their workloads, and runs istiod with the environment and the service
// account of the chart's Deployment.
func (b *Bed) startIstio(ctx context.Context, meshConfig map[string]any) error {
	if err := b.InstallIstioCRDs(ctx); err != nil {
		return err
	}
	base, err := b.RenderOtherChart("istio-base", istioNamespace, filepath.Join(b.components.charts, "base"), nil)
	if err != nil {
		return err
	}
	mesh := map[string]any{"accessLogFile": "/dev/stdout"}
	for key, value := range meshConfig {
		mesh[key] = value
	}
	istiod, err := b.RenderOtherChart(
		"istiod",
		istioNamespace,
		filepath.Join(b.components.charts, "istio-control", "istio-discovery"),
		map[string]any{
			// The sidecars run a stock Envoy, which does not have the extensions for these.
			"telemetry": map[string]any{"enabled": false},
			"env": map[string]any{
				"PILOT_ENABLE_METADATA_EXCHANGE": "false",
				"PILOT_ENABLE_ALPN_FILTER":       "false",
			},
			"meshConfig": mesh,
		},
	)
	if err != nil {
		return err
	}
	deployment := &appsv1.Deployment{}
	u, err := istiod.Find("Deployment", "istiod")
	if err != nil {
		return err
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, deployment); err != nil {
		return err
	}
	for _, release := range []*harness.Release{base, istiod} {
		release.Objects = slices.DeleteFunc(release.Objects, func(u *unstructured.Unstructured) bool {
			// Without a kubelet these do not run, and the definitions exist.
			return slices.Contains([]string{
				"Deployment",
				"HorizontalPodAutoscaler",
				"PodDisruptionBudget",
				"CustomResourceDefinition",
			}, u.GetKind())
		})
		if err := b.Apply(ctx, release); err != nil {
			return err
		}
	}
	if err := b.runIstiod(ctx, deployment.Spec.Template.Spec.Containers[0].Env); err != nil {
		return err
	}
	return b.waitForInjector(ctx)
}

func (b *Bed) runIstiod(ctx context.Context, fromChart []corev1.EnvVar) error {
	config, err := b.ServiceAccountConfig(ctx, istioNamespace, "istiod")
	if err != nil {
		return err
	}
	kubeconfig, err := b.WriteKubeconfig("istiod", config)
	if err != nil {
		return err
	}
	env := []string{
		"HOME=" + b.dir,
		"TMPDIR=" + b.dir,
		"PATH=/usr/bin:/bin",
		"POD_NAME=istiod-0",
		"POD_NAMESPACE=" + istioNamespace,
		"SERVICE_ACCOUNT=istiod",
		"INJECTION_WEBHOOK_CONFIG_NAME=" + injectorConfiguration,
	}
	for _, e := range fromChart {
		if e.ValueFrom == nil && e.Name != "KUBECONFIG" {
			env = append(env, e.Name+"="+e.Value)
		}
	}
	listen := func(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }
	b.Istiod = &harness.Process{
		Name: "istiod", Path: b.components.istiod, Log: b.LogPath("istiod"), Env: env,
		Args: []string{
			"discovery", "--kubeconfig=" + kubeconfig, "--ctrlz_port=0",
			"--httpAddr=" + listen(b.fabric.loopback, 8080), "--grpcAddr=" + listen(b.fabric.loopback, 15010),
			"--monitoringAddr=" + listen(b.fabric.loopback, 15014),
			"--secureGRPCAddr=" + listen(b.fabric.gateway, istiodPort), "--httpsAddr=" + listen(b.fabric.gateway, 15017),
		},
	}
	if err := b.Istiod.Start(); err != nil {
		return err
	}
	b.OnStop(func() error { defer b.Istiod.Kill(); return b.Istiod.Crashed() })
	return b.WaitForIstiod(ctx)
}

// WaitForIstiod waits until istiod is ready, after a start.
func (b *Bed) WaitForIstiod(ctx context.Context) error {
	url := fmt.Sprintf("http://%s/ready", netip.AddrPortFrom(b.fabric.loopback, 8080))
	err := harness.Eventually(ctx, startTimeout, "istiod to be ready", func(ctx context.Context) error {
		if err := b.Istiod.Crashed(); err != nil {
			return err
		}
		return get(ctx, url)
	})
	if err != nil {
		return fmt.Errorf("%w%s", err, b.Istiod.Tail())
	}
	return nil
}

// waitForInjector gives istiod's Service its endpoint and waits until the API server calls the injector.
func (b *Bed) waitForInjector(ctx context.Context) error {
	ready, tcp, name, port := true, corev1.ProtocolTCP, "https-webhook", int32(15017)
	err := b.Client.Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: istioNamespace, Name: "istiod", Labels: map[string]string{discoveryv1.LabelServiceName: "istiod"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{b.fabric.gateway.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		}},
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}},
	})
	if err != nil {
		return err
	}
	return harness.Eventually(ctx, startTimeout, "Istio's injector", func(ctx context.Context) error {
		config := &registrationv1.MutatingWebhookConfiguration{}
		if err := b.Client.Get(ctx, client.ObjectKey{Name: injectorConfiguration}, config); err != nil {
			return err
		}
		for _, w := range config.Webhooks {
			if len(w.ClientConfig.CABundle) == 0 {
				return fmt.Errorf("%s is without the CA bundle that istiod writes", w.Name)
			}
		}
		admitted, err := b.dryRun(ctx)
		if err == nil && !slices.ContainsFunc(admitted.Spec.InitContainers, isProxy) {
			err = fmt.Errorf("a pod with the label got the containers %v", admitted.Spec.InitContainers)
		}
		return err
	})
}

func (b *Bed) dryRun(ctx context.Context) (*corev1.Pod, error) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "probe-",
			Namespace:    "default",
			Labels:       map[string]string{"sidecar.istio.io/inject": "true"},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	return pod, b.Client.Create(ctx, pod, client.DryRunAll)
}

func get(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// It uses no proxy of the environment, because the address is on this machine.
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}
