package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/describe"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/exit"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/live"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/term"
	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
)

// describeFlags are the flags of redis-tls describe.
type describeFlags struct {
	kube             *genericclioptions.ConfigFlags
	files            []string
	offline          bool
	values           string
	installNamespace string
	secrets          bool
	output           string
}

func newDescribeCommand() *cobra.Command {
	flags := describeFlags{kube: live.Flags()}
	command := &cobra.Command{
		Use:   "describe TYPE/NAME… | -f FILE|DIR|-",
		Short: "Show what a pod or a workload requests, what it gets, and in which state that is",
		Long: `Shows the keys in effect, and the place that has each of them. Then it shows the decision of the webhook about
a new pod, with all problems and warnings. The VIPs, the mesh objects with their states, the pods and the Events
of redis-tls follow.

TYPE is pod or a kind with a pod template, as kubectl takes it: deploy, sts, cronjob, rollout. A pod is shown
with its owner: the decision is about the owner's next pod.

The command reads the cluster with your rights, and changes nothing. What does not exist or may not be read is
a part of the output. Secrets are read only with --secrets, and then only those that the request names.

With -f it describes the pods of manifests, as if they were applied to the cluster. Objects of the manifests
replace those of the cluster. With --offline, or without a kubeconfig, only the manifests are read.

The exit status is 79 if a new pod is refused, or if an object of a live pod is missing, edited or unmanaged. The
same applies to a named Secret or ConfigMap. It is 0 for pods that request nothing, and for all warnings.`,
		Example: `  redis-tls describe deploy/cart -n shop
  redis-tls describe pod/cart-7d4b9c6f5-x2x4z -n shop --secrets
  redis-tls describe -f deployment.yaml -o yaml`,
		ValidArgsFunction: completeWorkloads,
		RunE: func(command *cobra.Command, args []string) error {
			return runDescribe(
				command.Context(), flags, args, command.InOrStdin(), command.OutOrStdout(), command.ErrOrStderr())
		},
	}
	flags.kube.AddFlags(command.Flags())
	f := command.Flags()
	addFilesFlag(command, &flags.files)
	f.BoolVar(&flags.offline, "offline", false, "read only the manifests of -f, and no cluster")
	f.StringVar(&flags.values, "values", "",
		"values file of the Helm chart, if no cluster is read (default: the chart's own values)")
	addInstallFlag(command, &flags.installNamespace)
	f.BoolVar(&flags.secrets, "secrets", false, "read the Secrets that the request names, to check their keys")
	f.StringVarP(&flags.output, "output", "o", "table", "format of the output: table, json or yaml")
	return command
}

// addInstallFlag adds the flag --install-namespace.
func addInstallFlag(command *cobra.Command, namespace *string) {
	command.Flags().StringVar(namespace, "install-namespace", "",
		"namespace of the webhook, if you may not list ConfigMaps in all namespaces (default: redis-tls)")
}

// runDescribe reads, describes and prints.
func runDescribe(
	ctx context.Context, flags describeFlags, args []string, in io.Reader, out, errOut io.Writer,
) error {
	if err := flags.check(args); err != nil {
		return exit.With(exit.Usage, err)
	}
	stop := term.Spin(errOut, "reading the cluster")
	input, err := flags.input(ctx, args, in)
	var report *describe.Report
	if err == nil {
		input.Secrets = flags.secrets
		report, err = describe.Run(ctx, input)
	}
	stop()
	if err != nil {
		return err
	}
	if err := printFormat(out, flags.output, report, func() string {
		return report.Table(term.NewPainter(out), input.Cluster.At)
	}); err != nil {
		return err
	}
	if report.HasFindings() {
		return exit.With(exit.Findings, nil)
	}
	return nil
}

// check validates the combination of flags and arguments.
func (f *describeFlags) check(args []string) error {
	switch {
	case !slices.Contains([]string{"table", "json", "yaml"}, f.output):
		return fmt.Errorf("--output must be table, json or yaml, got %q", f.output)
	case len(args) == 0 && len(f.files) == 0:
		return errors.New("requires TYPE/NAME or --filename, as in deploy/cart")
	case len(args) > 0 && len(f.files) > 0:
		return errors.New("--filename cannot be used with TYPE/NAME; remove one of them")
	case f.offline && len(f.files) == 0:
		return errors.New("--offline requires --filename; add the manifests")
	}
	return nil
}

// input reads the cluster, the manifests or both.
func (f *describeFlags) input(ctx context.Context, args []string, in io.Reader) (describe.Input, error) {
	if len(f.files) > 0 {
		return f.manifests(ctx, in)
	}
	client, err := live.Connect(f.kube)
	if err != nil {
		return describe.Input{}, err
	}
	cluster, err := live.Read(ctx, client, live.Options{
		Namespaces:       []string{client.Namespace},
		InstallNamespace: f.installNamespace,
	})
	if err != nil {
		return describe.Input{}, err
	}
	workloads, err := cluster.Find(ctx, client.Namespace, args...)
	return describe.Input{Cluster: cluster, Workloads: workloads}, err
}

// manifests reads the files of -f, on top of the cluster if there is one.
func (f *describeFlags) manifests(ctx context.Context, in io.Reader) (describe.Input, error) {
	files, err := readManifests(f.files, in)
	if err != nil {
		return describe.Input{}, err
	}
	cluster, namespace, err := f.cluster(ctx, files)
	if err != nil {
		return describe.Input{}, err
	}
	objects, err := objectsOf(files, namespace)
	if err == nil {
		err = cluster.Overlay(objects)
	}
	if err != nil {
		return describe.Input{}, exit.With(exit.Input, err)
	}
	input := describe.Input{Cluster: cluster}
	for _, o := range objects {
		if w := live.NewWorkload(o); len(w.Templates) > 0 {
			input.Workloads = append(input.Workloads, w)
		}
	}
	if len(input.Workloads) == 0 {
		return describe.Input{}, exit.With(exit.Input, fmt.Errorf(
			"%s: must contain a pod or an object with a pod template", strings.Join(f.files, ", ")))
	}
	return input, nil
}

// cluster returns the cluster below the manifests, and the namespace of objects that do not set one. Without a
// kubeconfig it is empty.
func (f *describeFlags) cluster(ctx context.Context, files []*manifest.File) (*live.Cluster, string, error) {
	namespace, _, _ := f.kube.ToRawKubeConfigLoader().Namespace()
	if namespace == "" {
		namespace = "default"
	}
	var client *live.Client
	if !f.offline {
		var err error
		if client, err = live.Connect(f.kube); err != nil && !errors.Is(err, live.ErrNoCluster) {
			return nil, "", err
		}
	}
	switch {
	case client == nil:
		cfg, err := f.config()
		return live.Manifests(cfg), namespace, err
	case f.values != "":
		return nil, "", exit.With(exit.Usage, errors.New("--values requires --offline, because the cluster has its own"))
	}
	objects, err := objectsOf(files, namespace)
	if err != nil {
		return nil, "", exit.With(exit.Input, err)
	}
	var namespaces []string
	for _, o := range objects {
		if name := o.GetNamespace(); name != "" && len(live.NewWorkload(o).Templates) > 0 {
			namespaces = append(namespaces, name)
		}
	}
	slices.Sort(namespaces)
	cluster, err := live.Read(ctx, client, live.Options{
		Namespaces:       append(slices.Compact(namespaces), namespace),
		InstallNamespace: f.installNamespace,
	})
	return cluster, namespace, err
}

// config returns the configuration of --values.
func (f *describeFlags) config() (config.Config, error) {
	if f.values == "" {
		return config.Default(), nil
	}
	values, err := os.ReadFile(f.values)
	if err != nil {
		return config.Config{}, fmt.Errorf("--values: %w", err)
	}
	cfg, err := annotation.ParseValues(values)
	if err != nil {
		return config.Config{}, exit.With(exit.Input, fmt.Errorf("--values %s: %w", f.values, err))
	}
	return cfg, nil
}
