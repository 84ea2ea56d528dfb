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
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/check"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/exit"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/term"
	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
)

// checkFlags are the flags of redis-tls check.
type checkFlags struct {
	cluster *genericclioptions.ConfigFlags
	before  bool
	only    []string
	skip    []string
	wait    time.Duration
	values  string
	output  string
}

// checkOutputs are the values of --output.
var checkOutputs = []string{"table", "short", "json", "yaml"}

// checkInterval is the time between two rounds of --wait.
const checkInterval = 2 * time.Second

func newCheckCommand() *cobra.Command {
	flags := checkFlags{cluster: genericclioptions.NewConfigFlags(true)}
	command := &cobra.Command{
		Use:   "check",
		Short: "Check the cluster and the installation for faults",
		Long: `Reads the cluster with your rights, and checks what redis-tls depends on: Kubernetes, Istio and the
installation. It writes nothing. With --pre it checks whether redis-tls can be installed.

√ is a check that passed, × one that failed, ‼ a warning. A check that needs something that you are not
allowed to read is skipped, with the reason. For each finding it prints what was found, why it matters, how
to fix it, and the section of the documents. A failed check does not end the others.

The exit status is 79 if a check failed. Warnings and skipped checks do not change it.`,
		Example: `  redis-tls check --pre
  redis-tls check --wait 2m
  redis-tls check --only webhook-before-injector,leader -o json`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return runCheck(command.Context(), flags, command.OutOrStdout(), command.ErrOrStderr())
		},
	}
	f := command.Flags()
	f.BoolVar(&flags.before, "pre", false, "check whether redis-tls can be installed")
	f.StringSliceVar(&flags.only, "only", nil, "ids of the checks that run; the default is all")
	f.StringSliceVar(&flags.skip, "skip", nil, "ids of checks that do not run")
	f.DurationVar(&flags.wait, "wait", 0, "time to repeat the checks in until none fails, as in 60s")
	f.StringVar(&flags.values, "values", "", "values file of the Helm chart for --pre (default: the chart's own values)")
	f.StringVarP(&flags.output, "output", "o", "table", "format of the output: table, short, json or yaml")
	flags.cluster.AddFlags(f)
	return command
}

func (f *checkFlags) validate() error {
	if !slices.Contains(checkOutputs, f.output) {
		return exit.With(exit.Usage, fmt.Errorf("--output must be table, short, json or yaml, got %q", f.output))
	}
	for flag, ids := range map[string][]string{"only": f.only, "skip": f.skip} {
		if err := check.ParseIDs(flag, ids); err != nil {
			return exit.With(exit.Usage, err)
		}
	}
	return nil
}

// categories returns those of the cluster that run.
func (f *checkFlags) categories() []check.Category {
	if f.before {
		return []check.Category{check.Kubernetes, check.Istio, check.Install}
	}
	return []check.Category{check.Kubernetes, check.Istio, check.ControlPlane}
}

// runCheck checks the cluster of the flags.
func runCheck(ctx context.Context, flags checkFlags, out, errOut io.Writer) error {
	if err := flags.validate(); err != nil {
		return err
	}
	options := check.Options{Version: version, Planned: config.Default(), Before: flags.before, Now: time.Now}
	if flags.values != "" {
		text, err := os.ReadFile(flags.values)
		if err != nil {
			return fmt.Errorf("--values: %w", err)
		}
		if options.Planned, err = annotation.ParseValues(text); err != nil {
			return exit.With(exit.Input, fmt.Errorf("--values %s: %w", flags.values, err))
		}
	}
	restConfig, err := flags.cluster.ToRESTConfig()
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	restConfig = rest.CopyConfig(restConfig)
	restConfig.QPS, restConfig.Burst = 50, 100 // the default of 5 requests per second would take longer than the requests
	if options.Client, err = kubernetes.NewForConfig(restConfig); err != nil {
		return fmt.Errorf("making the client: %w", err)
	}
	stop := term.Spin(errOut, "reading the cluster")
	report, err := check.Wait(ctx, flags.wait, checkInterval, func(ctx context.Context) (*check.Report, error) {
		facts, err := check.Read(ctx, options)
		if err != nil {
			return nil, err
		}
		return check.Run(facts, nil, check.Selection{
			Categories: flags.categories(), Only: flags.only, Skip: flags.skip,
		}), nil
	})
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
