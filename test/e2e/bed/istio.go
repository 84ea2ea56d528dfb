package bed

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

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
	// istiodPort is the port of istiod for sidecars, istiodHTTP the one for probes.
	istiodPort = 15012
	istiodHTTP = 8080
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
	if err := b.Apply(ctx, withoutWorkloads(base)); err != nil {
		return err
	}
	b.meshConfig = map[string]any{"accessLogFile": "/dev/stdout"}
	maps.Copy(b.meshConfig, meshConfig)
	b.Istiod, _, err = b.installIstiod(ctx, "", b.fabric.gateway, b.fabric.loopback)
	return err
}

// installIstiod applies the chart of istiod for the revision, which is empty for the default one. It runs istiod at
// these addresses, for sidecars and for probes, until the bed is stopped.
func (b *Bed) installIstiod(
	ctx context.Context, revision string, address, loopback netip.Addr,
) (*harness.Process, *harness.Release, error) {
	name := istiodName(revision)
	release, err := b.RenderOtherChart(
		name,
		istioNamespace,
		filepath.Join(b.components.charts, "istio-control", "istio-discovery"),
		map[string]any{
			"revision": revision,
			// The sidecars run a stock Envoy, which does not have the extensions for these.
			"telemetry": map[string]any{"enabled": false},
			"env": map[string]any{
				"PILOT_ENABLE_METADATA_EXCHANGE": "false",
				"PILOT_ENABLE_ALPN_FILTER":       "false",
			},
			"meshConfig": b.meshConfig,
		},
	)
	if err != nil {
		return nil, nil, err
	}
	deployment := &appsv1.Deployment{}
	u, err := release.Find("Deployment", name)
	if err != nil {
		return nil, nil, err
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, deployment); err != nil {
		return nil, nil, err
	}
	if err := b.Apply(ctx, withoutWorkloads(release)); err != nil {
		return nil, nil, err
	}
	b.DNS.Set(name+"."+istioNamespace+".svc", address)
	fromChart := deployment.Spec.Template.Spec.Containers[0].Env
	p, err := b.runIstiod(ctx, name, injectorOf(revision), fromChart, address, loopback)
	if err != nil {
		return nil, nil, err
	}
	return p, release, b.waitForInjector(ctx, revision, address)
}

// istiodName is the name of the Service, the Deployment and the service account of a revision's istiod.
func istiodName(revision string) string { return strings.TrimSuffix("istiod-"+revision, "-") }

// injectorOf is the name of the MutatingWebhookConfiguration of a revision.
func injectorOf(revision string) string {
	return strings.TrimSuffix(injectorConfiguration+"-"+revision, "-")
}

// withoutWorkloads removes what does not run without a kubelet, and the definitions, which exist.
func withoutWorkloads(r *harness.Release) *harness.Release {
	r.Objects = slices.DeleteFunc(r.Objects, func(u *unstructured.Unstructured) bool {
		return slices.Contains([]string{
			"Deployment",
			"HorizontalPodAutoscaler",
			"PodDisruptionBudget",
			"CustomResourceDefinition",
		}, u.GetKind())
	})
	return r
}

func (b *Bed) runIstiod(
	ctx context.Context, name, injector string, fromChart []corev1.EnvVar, address, loopback netip.Addr,
) (*harness.Process, error) {
	config, err := b.ServiceAccountConfig(ctx, istioNamespace, name)
	if err != nil {
		return nil, err
	}
	kubeconfig, err := b.WriteKubeconfig(name, config)
	if err != nil {
		return nil, err
	}
	env := []string{
		"HOME=" + b.dir,
		"TMPDIR=" + b.dir,
		"PATH=/usr/bin:/bin",
		"POD_NAME=" + name + "-0",
		"POD_NAMESPACE=" + istioNamespace,
		"SERVICE_ACCOUNT=" + name,
		"INJECTION_WEBHOOK_CONFIG_NAME=" + injector,
	}
	for _, e := range fromChart {
		if e.ValueFrom == nil && e.Name != "KUBECONFIG" {
			env = append(env, e.Name+"="+e.Value)
		}
	}
	listen := func(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }
	p := &harness.Process{
		Name: name, Path: b.components.istiod, Log: b.LogPath(name), Env: env,
		Args: []string{
			"discovery", "--kubeconfig=" + kubeconfig, "--ctrlz_port=0",
			"--httpAddr=" + listen(loopback, istiodHTTP), "--grpcAddr=" + listen(loopback, 15010),
			"--monitoringAddr=" + listen(loopback, 15014),
			"--secureGRPCAddr=" + listen(address, istiodPort), "--httpsAddr=" + listen(address, 15017),
		},
	}
	if err := p.Start(); err != nil {
		return nil, err
	}
	b.OnStop(func() error { defer p.Kill(); return p.Crashed() })
	return p, waitForReady(ctx, p, loopback)
}

// WaitForIstiod waits until istiod is ready, after a start.
func (b *Bed) WaitForIstiod(ctx context.Context) error {
	return waitForReady(ctx, b.Istiod, b.fabric.loopback)
}

func waitForReady(ctx context.Context, istiod *harness.Process, loopback netip.Addr) error {
	url := fmt.Sprintf("http://%s/ready", netip.AddrPortFrom(loopback, istiodHTTP))
	err := harness.Eventually(ctx, startTimeout, istiod.Name+" to be ready", func(ctx context.Context) error {
		if err := istiod.Crashed(); err != nil {
			return err
		}
		return get(ctx, url)
	})
	if err != nil {
		return fmt.Errorf("%w%s", err, istiod.Tail())
	}
	return nil
}

// waitForInjector gives istiod's Service its endpoint and waits until the API server calls the injector.
func (b *Bed) waitForInjector(ctx context.Context, revision string, address netip.Addr) error {
	service := istiodName(revision)
	ready, tcp, name, port := true, corev1.ProtocolTCP, "https-webhook", int32(15017)
	err := b.Client.Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: istioNamespace, Name: service, Labels: map[string]string{discoveryv1.LabelServiceName: service},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{address.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		}},
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}},
	})
	if err != nil {
		return err
	}
	return harness.Eventually(ctx, startTimeout, "Istio's injector", func(ctx context.Context) error {
		config := &registrationv1.MutatingWebhookConfiguration{}
		if err := b.Client.Get(ctx, client.ObjectKey{Name: injectorOf(revision)}, config); err != nil {
			return err
		}
		for _, w := range config.Webhooks {
			if len(w.ClientConfig.CABundle) == 0 {
				return fmt.Errorf("%s is without the CA bundle that istiod writes", w.Name)
			}
		}
		admitted, err := b.dryRun(ctx, revision)
		if err == nil && !slices.ContainsFunc(admitted.Spec.InitContainers, isProxy) {
			err = fmt.Errorf("a pod with the label got the containers %v", admitted.Spec.InitContainers)
		}
		return err
	})
}

// dryRun creates a pod of the revision as a dry run.
func (b *Bed) dryRun(ctx context.Context, revision string) (*corev1.Pod, error) {
	labels := map[string]string{"sidecar.istio.io/inject": "true"}
	if revision != "" {
		labels["istio.io/rev"] = revision
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "probe-",
			Namespace:    "default",
			Labels:       labels,
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
