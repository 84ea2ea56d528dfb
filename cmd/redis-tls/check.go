package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/check"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/exit"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/live"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/term"
	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
)

// checkFlags are the flags of redis-tls check.
type checkFlags struct {
	cluster  *genericclioptions.ConfigFlags
	before   bool
	all      bool
	only     []string
	skip     []string
	wait     time.Duration
	values   string
	sidecars string
	output   string
}

// checkOutputs are the values of --output.
var checkOutputs = []string{"table", "short", "json", "yaml"}

// checkInterval is the time between two rounds of --wait.
const checkInterval = 2 * time.Second

func newCheckCommand() *cobra.Command {
	flags := checkFlags{cluster: live.Flags()}
	command := &cobra.Command{
		Use:   "check [WORKLOAD...]",
		Short: "Check the cluster, the installation and workloads for faults",
		Long: `Reads the cluster with your rights, and checks what redis-tls depends on: Kubernetes, Istio and the
installation. It also checks the workloads of the namespace that request TLS, or those that you name. It
writes nothing. With --pre it checks whether redis-tls can be installed.

√ is a check that passed, × one that failed, ‼ a warning. A check that needs something that you are not
allowed to read is skipped, with the reason. For each finding it prints what was found, why it matters, how
to fix it, and the section of the documents. A failed check does not end the others.

For a workload it reads the Secrets and ConfigMaps with its TLS files. To see what the sidecar really has, it
runs pilot-agent there (pods/exec). No output has the content of a Secret.

The exit status is 79 if a check failed. Warnings and skipped checks do not change it.`,
		Example: `  redis-tls check --pre
  redis-tls check -n shop
  redis-tls check -n shop deploy/cart
  redis-tls check --wait 2m -o short
  redis-tls check --only webhook-before-injector,leader -o json`,
		ValidArgsFunction: completeWorkloads,
		RunE: func(command *cobra.Command, args []string) error {
			return runCheck(command.Context(), flags, args, command.OutOrStdout(), command.ErrOrStderr())
		},
	}
	f := command.Flags()
	f.BoolVar(&flags.before, "pre", false, "check whether redis-tls can be installed")
	f.BoolVarP(&flags.all, "all-namespaces", "A", false, "check the workloads of all namespaces")
	f.StringSliceVar(&flags.only, "only", nil, "ids of the checks that run; the default is all")
	f.StringSliceVar(&flags.skip, "skip", nil, "ids of checks that do not run")
	f.DurationVar(&flags.wait, "wait", 0, "time to repeat the checks in until none fails, as in 60s")
	f.StringVar(&flags.values, "values", "", "values file of the Helm chart for --pre (default: the chart's own values)")
	f.StringVar(&flags.sidecars, "sidecar-files", "",
		"directory with the answers of sidecars, NAMESPACE/POD/config_dump.json, clusters.json, certs.json and stats.json, "+
			"instead of pods/exec")
	f.StringVarP(&flags.output, "output", "o", "table", "format of the output: table, short, json or yaml")
	flags.cluster.AddFlags(f)
	return command
}

func (f *checkFlags) validate(args []string) error {
	usage := func(format string, args ...any) error { return exit.With(exit.Usage, fmt.Errorf(format, args...)) }
	switch {
	case !slices.Contains(checkOutputs, f.output):
		return usage("--output must be table, short, json or yaml, got %q", f.output)
	case f.before && len(args) > 0:
		return usage("--pre cannot be used with a workload; remove one of them")
	case f.all && len(args) > 0:
		return usage("--all-namespaces cannot be used with a workload; use --namespace instead")
	}
	for flag, ids := range map[string][]string{"only": f.only, "skip": f.skip} {
		if err := check.ParseIDs(flag, ids); err != nil {
			return exit.With(exit.Usage, err)
		}
	}
	return nil
}

// selection returns the checks that run.
func (f *checkFlags) selection() check.Selection {
	s := check.Selection{Only: f.only, Skip: f.skip, Categories: []check.Category{check.Kubernetes, check.Istio}}
	if f.before {
		s.Categories = append(s.Categories, check.Install)
	} else {
		s.Categories = append(s.Categories, check.ControlPlane, check.Workloads, check.Proxy)
	}
	return s
}

// planned returns the configuration of the values file.
func (f *checkFlags) planned() (config.Config, error) {
	if f.values == "" {
		return config.Default(), nil
	}
	text, err := os.ReadFile(f.values)
	if err != nil {
		return config.Config{}, fmt.Errorf("--values: %w", err)
	}
	cfg, err := annotation.ParseValues(text)
	if err != nil {
		return config.Config{}, exit.With(exit.Input, fmt.Errorf("--values %s: %w", f.values, err))
	}
	return cfg, nil
}

// runCheck checks the cluster of the flags.
func runCheck(ctx context.Context, flags checkFlags, args []string, out, errOut io.Writer) error {
	if err := flags.validate(args); err != nil {
		return err
	}
	planned, err := flags.planned()
	if err != nil {
		return err
	}
	client, err := live.Connect(flags.cluster)
	if err != nil {
		return err
	}
	clientset, err := kubernetes.NewForConfig(client.REST)
	if err != nil {
		return fmt.Errorf("making the client: %w", err)
	}
	installNamespace := ""
	if flags.before && flags.cluster.Namespace != nil {
		installNamespace = *flags.cluster.Namespace
	}
	stop := func() {}
	c := &checker{
		flags: flags, args: args, client: client,
		options: check.Options{Client: clientset, Version: version, Planned: planned, Before: flags.before,
			Namespace: installNamespace, Now: time.Now},
		progress: func(text string) {
			stop()
			stop = term.Spin(errOut, text)
		},
	}
	report, err := check.Wait(ctx, flags.wait, checkInterval, c.round)
	stop()
	if err != nil {
		return err
	}
	if err := printReport(report, flags.output, out); err != nil {
		return err
	}
	if !report.Success {
		return exit.With(exit.Findings, nil)
	}
	return nil
}

func printReport(report *check.Report, format string, out io.Writer) error {
	switch format {
	case "json":
		text, err := json.MarshalIndent(report, "", "  ")
		return write(out, append(text, '\n'), err)
	case "yaml":
		text, err := yaml.Marshal(report)
		return write(out, text, err)
	}
	return report.Print(out, term.NewPainter(out), format == "short")
}

func write(out io.Writer, text []byte, err error) error {
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}
