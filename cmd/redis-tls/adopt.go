package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/adopt"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/exit"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/live"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/preview"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/term"
)

// adoptFlags are the flags of redis-tls adopt.
type adoptFlags struct {
	injectFlags
	kube             *genericclioptions.ConfigFlags
	installNamespace string
	workloads        []string
	write            bool
	keepObjects      bool
	timeout          time.Duration
}

func newAdoptCommand() *cobra.Command {
	flags := adoptFlags{kube: genericclioptions.NewConfigFlags(true)}
	command := &cobra.Command{
		Use:   "adopt [-f FILE|DIR|-]",
		Short: "Replace hand-written Istio objects by annotations",
		Long: `Finds hand-written TLS origination: ServiceEntry and DestinationRule, the VirtualService and the host aliases
that belong to them, and the volumes of the sidecar. Prints for each workload the annotations that replace
them, what becomes safer, and what to check before. Then prints the objects that go, in order. What it cannot
translate is left, with the reason.

With -f it reads manifests, else one namespace of the cluster. In a cluster it reads the workloads and
ConfigMaps of all namespaces, because they may use the objects too. It reads no Secret.

The webhook's own code admits each proposed pod, together with the objects that stay. A workload that would
be refused is left. The command does not guess: if it cannot see which workload uses a rule, it names the
candidates, and --workload chooses. The undecided workloads that it does not name count as not using the rule.

Without --write it changes nothing. With -f it prints a diff, and --write edits the files in place and keeps
comments. Pods of the old template need the hand-written objects until they have been replaced. For a change
without a gap, apply the output of --keep-objects first. When all pods have been replaced, run adopt again.

In a cluster, it first sends every write as a dry run. With --write it then adds the annotations, waits until
no pod of the old template runs, deletes the objects, and removes the volumes. If it stops, run it again.

The exit status is 79 if something was left.`,
		Example: `  redis-tls adopt -n shop
  redis-tls adopt -n shop --write
  redis-tls adopt -f manifests/
  redis-tls adopt -f manifests/ --write --keep-objects
  redis-tls adopt -f mesh.yaml -f deployment.yaml --workload deploy/cart -o yaml`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if len(flags.files) == 0 {
				return runAdoptLive(command.Context(), flags, command.OutOrStdout(), command.ErrOrStderr())
			}
			flags.namespace = *flags.kube.Namespace
			return runAdopt(flags, command.InOrStdin(), command.OutOrStdout())
		},
	}
	flags.kube.AddFlags(command.Flags())
	f := command.Flags()
	addFilesFlag(command, &flags.files)
	addInstallFlag(command, &flags.installNamespace)
	f.StringVar(&flags.namespaceFile, "namespace-file", "",
		"file with Namespaces, in addition to those in the manifests, for their labels and annotations")
	f.StringVar(&flags.values, "values", "",
		"values file of the Helm chart, for its defaults, policy and vip (default: the chart's own values)")
	f.StringVarP(&flags.output, "output", "o", "table", "format of the output: table, diff, json or yaml")
	f.StringArrayVar(&flags.workloads, "workload", nil,
		"workload that uses the hand-written objects, as in deploy/cart; repeatable (default: found in the manifests)")
	f.BoolVar(&flags.write, "write", false, "edit the files in place, or change the cluster")
	f.BoolVar(&flags.keepObjects, "keep-objects", false,
		"only add the annotations; keep the hand-written objects and volumes for running pods")
	f.DurationVar(&flags.timeout, "timeout", 10*time.Minute, "longest time to wait for the rollouts, in a cluster")
	return command
}

// runAdoptLive adopts the objects of a namespace of the cluster.
func runAdoptLive(ctx context.Context, flags adoptFlags, out, errOut io.Writer) error {
	if !slices.Contains([]string{"table", "json", "yaml"}, flags.output) {
		return exit.With(exit.Usage, fmt.Errorf("--output must be table, json or yaml without -f, got %q", flags.output))
	}
	if flags.keepObjects || flags.namespaceFile != "" || flags.values != "" {
		return exit.With(exit.Usage, errors.New("--keep-objects, --namespace-file and --values cannot be used without -f"))
	}
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, flags.timeout)
	defer cancel()
	connection, err := live.Connect(flags.kube)
	if err != nil {
		return err
	}
	read, err := live.Read(ctx, connection, live.Options{
		Namespaces: []string{connection.Namespace}, InstallNamespace: flags.installNamespace,
	})
	if err != nil {
		return err
	}
	cluster := adopt.Cluster{
		Client: connection.Client, Namespace: connection.Namespace, Config: read.Config, Workloads: flags.workloads,
		Report: func(format string, args ...any) { fmt.Fprintf(errOut, format+"\n", args...) },
	}
	plan, err := cluster.Find(ctx)
	if err != nil {
		return err
	}
	if err := printPlan(plan, flags.output, out); err != nil {
		return err
	}
	if flags.write {
		err = cluster.Write(ctx, plan)
	} else {
		err = cluster.DryRun(ctx, plan)
	}
	if err != nil {
		return exit.With(exit.Findings, err)
	}
	if len(plan.Left) > 0 {
		return exit.With(exit.Findings, nil)
	}
	return nil
}

func runAdopt(flags adoptFlags, in io.Reader, out io.Writer) error {
	if !slices.Contains([]string{"table", "diff", "json", "yaml"}, flags.output) {
		return exit.With(exit.Usage, fmt.Errorf("--output must be table, diff, json or yaml, got %q", flags.output))
	}
	if flags.write && slices.Contains(flags.files, manifest.Stdin) {
		return exit.With(exit.Usage, errors.New("--write cannot be used with -f -; name a file"))
	}
	input, err := readInput(flags.injectFlags, in)
	if err != nil {
		return exit.With(exit.Input, err)
	}
	before := preview.Texts(input.Files)
	plan, err := adopt.Find(adopt.Input{
		Files: input.Files, NamespaceFiles: input.NamespaceFiles, Namespace: input.Namespace, Config: input.Config,
		Workloads: flags.workloads,
	})
	if err != nil {
		return exit.With(exit.Input, err)
	}
	apply := plan.Apply
	if flags.keepObjects {
		apply = plan.Annotate
	}
	if err := printPlan(plan, flags.output, out); err != nil {
		return err
	}
	if err := apply(); err != nil {
		return exit.With(exit.Input, err)
	}
	switch {
	case flags.write:
		err = writeFiles(input.Files, before)
	case flags.output == "diff", flags.output == "table":
		err = preview.Diff(out, input.Files, before, nil, term.NewPainter(out))
	}
	if err == nil && len(plan.Left) > 0 {
		return exit.With(exit.Findings, nil)
	}
	return err
}

// printPlan prints the plan. The format diff has no plan.
func printPlan(plan *adopt.Plan, format string, out io.Writer) error {
	if format == "diff" {
		return nil
	}
	return printFormat(out, format, plan, plan.String)
}

// writeFiles writes the files that changed, and removes those without a document. A file that changed on the disk since
// it was read is an error.
func writeFiles(files []*manifest.File, before []string) error {
	for i, file := range files {
		if after := file.Text(); after == before[i] {
			continue
		}
		if now, err := os.ReadFile(file.Name); err != nil || string(now) != before[i] {
			return fmt.Errorf("%s: was changed by someone else; run adopt again (%v)", file.Name, err)
		}
	}
	for i, file := range files {
		after := file.Text()
		if after == before[i] {
			continue
		}
		if strings.TrimSpace(after) == "" {
			if err := os.Remove(file.Name); err != nil {
				return err
			}
			continue
		}
		info, err := os.Stat(file.Name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(file.Name, []byte(after), info.Mode()); err != nil {
			return err
		}
	}
	return nil
}
