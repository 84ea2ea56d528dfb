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

// newTestCommand returns the command that helm test runs in a pod.
func newTestCommand() *cobra.Command {
	var t admissionTest
	var labels, annotations []string
	command := &cobra.Command{
		Use:   "test",
		Short: "Check by dry-run how the installation admits pods",
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
	set.StringArrayVar(&labels, "label", nil, "label of the pods, key=value; repeatable")
	set.StringArrayVar(&annotations, "annotation", nil, "annotation of the pod that requests TLS, key=value; repeatable")
	set.BoolVar(
		&t.warns,
		"policy-warns",
		false,
		"expect a warning for a wrong request instead of a refusal (policy.mode: warn)",
	)
	set.AddGoFlag(flag.CommandLine.Lookup("kubeconfig"))
	return command
}

// pairs returns the values of key=value texts by key.
func pairs(texts []string) (map[string]string, error) {
	all := map[string]string{}
	for _, text := range texts {
		key, value, found := strings.Cut(text, "=")
		if !found || key == "" {
			return nil, fmt.Errorf("%q must be key=value", text)
		}
		all[key] = value
	}
	return all, nil
}

// create creates a pod by dry-run, and returns the pod as admitted and the warnings.
type create func(context.Context, *corev1.Pod) (*corev1.Pod, []string, error)

// dryRuns returns a create that sends pods to the API server.
func dryRuns(config *rest.Config, namespace string) (create, error) {
	var warnings warningList
	config = rest.CopyConfig(config)
	config.WarningHandler = &warnings
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, []string, error) {
		warnings = nil
		pod, err := clientset.CoreV1().Pods(namespace).Create(
			ctx,
			pod,
			metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}},
		)
		return pod, warnings, err
	}, nil
}

// warningList keeps the warnings of a response.
type warningList []string

func (l *warningList) HandleWarningHeader(_ int, _ string, text string) { *l = append(*l, text) }

// admissionTest creates pods by dry-run as users would. It proves that the API server reaches the webhook through its
// Service and trusts its certificate, that the policies admit the patched pod, and that Istio's injector adds the
// sidecar.
type admissionTest struct {
	namespace           string
	labels, annotations map[string]string
	warns               bool
	create              create
}

// run prints the outcome of each check, and returns an error if a check failed.
func (t *admissionTest) run(ctx context.Context, out io.Writer) error {
	failed := 0
	for _, step := range []struct {
		name  string
		check func(context.Context) error
	}{
		{"a pod that requests TLS is injected", t.checkRequest},
		{"a wrong request is reported", t.checkWrongRequest},
		{"a pod that opts out stays unchanged", t.checkOptOut},
	} {
		if err := step.check(ctx); err != nil {
			failed++
			fmt.Fprintf(out, "FAILED  %s: %s\n", step.name, err)
			continue
		}
		fmt.Fprintf(out, "ok      %s\n", step.name)
	}
	if failed > 0 {
		return fmt.Errorf("%d of 3 checks failed in namespace %s", failed, t.namespace)
	}
	return nil
}

func (t *admissionTest) checkRequest(ctx context.Context) error {
	pod, warnings, err := t.create(ctx, t.pod(t.annotations))
	if err != nil {
		return err
	}
	withWarnings := func(err error) error {
		for _, warning := range warnings {
			err = fmt.Errorf("%w\n        warning: %s", err, warning)
		}
		return err
	}
	if pod.Labels[origination.LabelInjected] != "true" {
		return withWarnings(
			errors.New("the admitted pod lacks the label " + origination.LabelInjected + "; check that the webhook is called"),
		)
	}
	if _, err := origination.ParseStatus(pod.Annotations[origination.AnnotationStatus]); err != nil {
		return withWarnings(fmt.Errorf("annotation %s: %w", origination.AnnotationStatus, err))
	}
	vips, err := origination.ParseVIPs(pod.Annotations[origination.AnnotationVIPs])
	if err != nil {
		return withWarnings(fmt.Errorf("annotation %s: %w", origination.AnnotationVIPs, err))
	}
	for host, addresses := range vips {
		for _, vip := range addresses {
			if !slices.ContainsFunc(pod.Spec.HostAliases, func(a corev1.HostAlias) bool {
				return a.IP == vip.String() && slices.Contains(a.Hostnames, host)
			}) {
				return withWarnings(fmt.Errorf("spec.hostAliases does not resolve %s to %s", host, vip))
			}
		}
	}
	isProxy := func(c corev1.Container) bool { return c.Name == "istio-proxy" }
	if !slices.ContainsFunc(pod.Spec.Containers, isProxy) && !slices.ContainsFunc(pod.Spec.InitContainers, isProxy) {
		return withWarnings(
			errors.New("the container istio-proxy is missing; set helmTest.labels so that Istio's injector adds a sidecar"),
		)
	}
	return nil
}

// wrongPort is not a port number, so a pod with it must be refused or warned about.
const wrongPort = "none"

func (t *admissionTest) checkWrongRequest(ctx context.Context) error {
	key := origination.Prefix + "port"
	_, warnings, err := t.create(ctx, t.pod(map[string]string{key: wrongPort}))
	message := strings.Join(warnings, "\n")
	switch {
	case err != nil && t.warns:
		return fmt.Errorf("the pod was refused, but policy.mode is warn: %w", err)
	case err != nil:
		message = err.Error()
	case !t.warns:
		return fmt.Errorf("the pod must be refused, but was admitted with the warnings %q", warnings)
	}
	if !strings.Contains(message, key) || !strings.Contains(message, wrongPort) {
		return fmt.Errorf("the message must contain %s and %s, got %q", key, wrongPort, message)
	}
	return nil
}

func (t *admissionTest) checkOptOut(ctx context.Context) error {
	pod, _, err := t.create(ctx, t.pod(map[string]string{origination.Prefix + "inject": "false"}))
	if err != nil {
		return err
	}
	if _, written := pod.Annotations[origination.AnnotationStatus]; written ||
		pod.Labels[origination.LabelInjected] != "" {
		return fmt.Errorf("redis-tls changed the pod: labels %v, annotations %v", pod.Labels, pod.Annotations)
	}
	return nil
}

// pod returns a pod that restricted pod security admits.
func (t *admissionTest) pod(annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:        "redis-tls-test",
			Namespace:   t.namespace,
			Labels:      t.labels,
			Annotations: annotations,
		},
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
