package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// newTestCommand is what `helm test` runs in a pod.
func newTestCommand() *cobra.Command {
	var t admissionTest
	var labels, annotations []string
	command := &cobra.Command{
		Use:   "test",
		Short: "Ask the API server, by dry-run, what becomes of pods that ask for TLS, and of others",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) (err error) {
			if t.labels, err = pairs(labels); err != nil {
				return err
			}
			if t.annotations, err = pairs(annotations); err != nil {
				return err
			}
			config, err := ctrl.GetConfig()
			if err != nil {
				return fmt.Errorf("finding the API server: %w", err)
			}
			if t.create, err = dryRuns(config, t.namespace); err != nil {
				return err
			}
			return t.run(command.Context(), command.OutOrStdout())
		},
	}
	set := command.Flags()
	set.StringVar(&t.namespace, "namespace", "default", "namespace of the pods")
	set.StringArrayVar(&labels, "label", nil, "a label of the pods, key=value; may be repeated")
	set.StringArrayVar(&annotations, "annotation", nil, "an annotation by which a pod asks, key=value; may be repeated")
	set.BoolVar(&t.warns, "policy-warns", false, "a wrong pod is warned about, not refused (policy.mode: warn)")
	set.AddGoFlag(flag.CommandLine.Lookup("kubeconfig"))
	return command
}

// pairs are the key=value texts, by key.
func pairs(texts []string) (map[string]string, error) {
	all := map[string]string{}
	for _, text := range texts {
		key, value, found := strings.Cut(text, "=")
		if !found || key == "" {
			return nil, fmt.Errorf("%q is not key=value", text)
		}
		all[key] = value
	}
	return all, nil
}

// create asks for a pod, and returns what it would be and what was warned about.
type create func(context.Context, *corev1.Pod) (*corev1.Pod, []string, error)

// dryRuns asks the API server, which creates nothing.
func dryRuns(config *rest.Config, namespace string) (create, error) {
	var warnings recorder
	config = rest.CopyConfig(config)
	config.WarningHandler = &warnings
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, []string, error) {
		warnings = nil
		pod, err := clientset.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return pod, warnings, err
	}, nil
}

// recorder keeps the warnings of an answer.
type recorder []string

func (r *recorder) HandleWarningHeader(_ int, _ string, text string) { *r = append(*r, text) }

// admissionTest asks for pods as users would. What it proves of an installation: the API server knows the webhook,
// reaches it through its Service and believes its certificate, the webhook decides, its patch is taken, the policies
// let the result pass, and Istio's injector adds the sidecar.
type admissionTest struct {
	namespace           string
	labels, annotations map[string]string
	warns               bool
	create              create
}

// run tells each outcome, and returns the error of what was not as it should be.
func (t *admissionTest) run(ctx context.Context, out io.Writer) error {
	failed := 0
	for _, step := range []struct {
		what  string
		check func(context.Context) error
	}{
		{"a pod that asks gets its TLS", t.asking},
		{"a pod that asks for what cannot be is told so", t.wrong},
		{"a pod that opts out is left alone", t.optedOut},
	} {
		if err := step.check(ctx); err != nil {
			failed++
			fmt.Fprintf(out, "FAILED  %s: %s\n", step.what, err)
			continue
		}
		fmt.Fprintf(out, "ok      %s\n", step.what)
	}
	if failed > 0 {
		return fmt.Errorf("%d of the pods of namespace %s did not fare as they should", failed, t.namespace)
	}
	return nil
}

func (t *admissionTest) asking(ctx context.Context) error {
	pod, warnings, err := t.create(ctx, t.pod(t.annotations))
	if err != nil {
		return err
	}
	told := func(err error) error {
		for _, warning := range warnings {
			err = fmt.Errorf("%w\n        warning: %s", err, warning)
		}
		return err
	}
	if pod.Labels[origination.LabelInjected] != "true" {
		return told(errors.New("it was admitted without the label " + origination.LabelInjected + ", so redis-tls did nothing for it"))
	}
	if _, err := origination.ParseStatus(pod.Annotations[origination.AnnotationStatus]); err != nil {
		return told(fmt.Errorf("annotation %s: %w", origination.AnnotationStatus, err))
	}
	vips, err := origination.ParseVIPs(pod.Annotations[origination.AnnotationVIPs])
	if err != nil {
		return told(fmt.Errorf("annotation %s: %w", origination.AnnotationVIPs, err))
	}
	for host, addresses := range vips {
		for _, vip := range addresses {
			if !slices.ContainsFunc(pod.Spec.HostAliases, func(a corev1.HostAlias) bool {
				return a.IP == vip.String() && slices.Contains(a.Hostnames, host)
			}) {
				return told(fmt.Errorf("spec.hostAliases does not give %s the address %s", host, vip))
			}
		}
	}
	isProxy := func(c corev1.Container) bool { return c.Name == "istio-proxy" }
	if !slices.ContainsFunc(pod.Spec.Containers, isProxy) && !slices.ContainsFunc(pod.Spec.InitContainers, isProxy) {
		return told(errors.New("it has no container istio-proxy: Istio's injector gave it no sidecar (helmTest.labels of the Helm values)"))
	}
	return nil
}

// wrongPort is no port, so its pod must not pass unnoticed.
const wrongPort = "none"

func (t *admissionTest) wrong(ctx context.Context) error {
	key := origination.Prefix + "port"
	_, warnings, err := t.create(ctx, t.pod(map[string]string{key: wrongPort}))
	words := strings.Join(warnings, "\n")
	switch {
	case err != nil && t.warns:
		return fmt.Errorf("it was refused, though policy.mode is warn: %w", err)
	case err != nil:
		words = err.Error()
	case !t.warns:
		return fmt.Errorf("it was admitted, with the warnings %q", warnings)
	}
	if !strings.Contains(words, key) || !strings.Contains(words, wrongPort) {
		return fmt.Errorf("what was said does not name %s and %s: %q", key, wrongPort, words)
	}
	return nil
}

func (t *admissionTest) optedOut(ctx context.Context) error {
	pod, _, err := t.create(ctx, t.pod(map[string]string{origination.Prefix + "inject": "false"}))
	if err != nil {
		return err
	}
	if _, written := pod.Annotations[origination.AnnotationStatus]; written || pod.Labels[origination.LabelInjected] != "" {
		return fmt.Errorf("redis-tls wrote to it: labels %v, annotations %v", pod.Labels, pod.Annotations)
	}
	return nil
}

// pod is one that the restricted pod security takes.
func (t *admissionTest) pod(annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "redis-tls-test", Namespace: t.namespace, Labels: t.labels, Annotations: annotations},
		Spec: corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](65532),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{Name: "app", Image: "app", SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: ptr.To(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			}}},
		},
	}
}
