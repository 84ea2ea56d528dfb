package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/fatih/color"
	"github.com/spf13/cobra"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/preview"
	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
)

// injectFlags are the flags of redis-tls inject.
type injectFlags struct {
	files         []string
	namespace     string
	namespaceFile string
	values        string
	output        string
}

func newInjectCommand() *cobra.Command {
	var flags injectFlags
	command := &cobra.Command{
		Use:   "inject -f FILE|DIR|-",
		Short: "Show what the cluster would make of manifests, without a cluster",
		Long: `Prints the manifests with every Pod, and every pod template of a Deployment, StatefulSet, DaemonSet,
ReplicaSet, Job or CronJob, as its pods would be admitted, and then the ServiceEntry and DestinationRule
objects that the controller would create. All other documents are printed as they are.

The webhook's own code decides, in a cluster in which there is nothing but these manifests: other pods'
claims, Services and mesh objects of a real one can still refuse a pod, and are not known here.

Warnings go to the standard error. With anything to refuse, every problem of every document is printed
there, nothing on the standard output, and the exit status is 1.

The output is to be looked at and compared. Apply the manifests themselves: the cluster does the rest.`,
		Example: `  redis-tls inject -f deployment.yaml
  redis-tls inject -f manifests/ -n shop --namespace-file namespace.yaml -o diff
  helm template shop ./chart | redis-tls inject -f - --values redis-tls-values.yaml`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return runInject(flags, command.InOrStdin(), command.OutOrStdout(), command.ErrOrStderr())
		},
	}
	f := command.Flags()
	f.StringArrayVarP(&flags.files, "filename", "f", nil, "file, directory of *.yaml, *.yml and *.json, or - for the standard input; repeatable")
	f.StringVarP(&flags.namespace, "namespace", "n", "", `namespace of objects that name none (the one of --namespace-file, else "default")`)
	f.StringVar(&flags.namespaceFile, "namespace-file", "", "file with Namespaces: their labels and annotations count, as do those of Namespaces in the manifests")
	f.StringVar(&flags.values, "values", "", "values file of the Helm chart: its defaults, policy and vip (the chart's own values)")
	f.StringVarP(&flags.output, "output", "o", "yaml", "yaml, json or diff")
	if err := command.MarkFlagRequired("filename"); err != nil {
		panic(err) // the flag is there, a few lines above
	}
	return command
}

// runInject reads, previews and prints.
func runInject(flags injectFlags, in io.Reader, out, errOut io.Writer) error {
	if !strings.Contains(" yaml json diff ", " "+flags.output+" ") {
		return fmt.Errorf("--output: %q is none of yaml, json and diff", flags.output)
	}
	input, readErr := readInput(flags, in)
	if input == nil {
		return readErr
	}
	before := preview.Texts(input.Files)
	result, err := preview.Run(*input)
	if err != nil {
		return err
	}
	for _, warning := range result.Warnings {
		fmt.Fprintf(errOut, "warning: %s\n", warning)
	}
	errs := []error{readErr}
	for _, problem := range result.Problems {
		errs = append(errs, errors.New(problem.String()))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return printResult(flags.output, input.Files, before, result.Created, out)
}

// readInput reads the files that the flags name. When manifests cannot be read it returns the others
// beside the error, so that their problems are reported too.
func readInput(flags injectFlags, in io.Reader) (*preview.Input, error) {
	input := preview.Input{Namespace: flags.namespace, Config: config.Default()}
	var errs []error
	if flags.values != "" {
		values, err := os.ReadFile(flags.values)
		if err != nil {
			return nil, fmt.Errorf("--values: %w", err)
		}
		if input.Config, err = annotation.ParseValues(values); err != nil {
			return nil, fmt.Errorf("--values %s: %w", flags.values, err)
		}
	}
	if flags.namespaceFile != "" {
		files, err := manifest.Read(flags.namespaceFile, in)
		if err != nil {
			return nil, fmt.Errorf("--namespace-file: %w", err)
		}
		namespaces := preview.Namespaces(files)
		if len(namespaces) == 0 {
			return nil, fmt.Errorf("--namespace-file: %s: no Namespace in it", flags.namespaceFile)
		}
		if len(namespaces) == 1 && input.Namespace == "" {
			input.Namespace = namespaces[0]
		}
		input.NamespaceFiles = files
	}
	if input.Namespace == "" {
		input.Namespace = "default"
	}
	for _, name := range flags.files {
		files, err := manifest.Read(name, in)
		input.Files = append(input.Files, files...)
		errs = append(errs, err)
	}
	return &input, errors.Join(errs...)
}

func printResult(format string, files []*manifest.File, before []string, created []any, out io.Writer) error {
	var text string
	var err error
	switch format {
	case "json":
		text, err = preview.JSON(files, created)
	case "diff":
		return preview.Diff(out, files, before, created, colourWanted(out))
	default:
		text, err = preview.YAML(preview.Texts(files), created)
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, text)
	return err
}

// colourWanted reports whether out is a terminal that may be coloured; the library knows NO_COLOR and
// dumb terminals.
func colourWanted(out io.Writer) bool {
	return out == io.Writer(os.Stdout) && !color.NoColor
}
