package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/exit"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/preview"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/term"
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
		Short: "Print manifests as the cluster would admit them, without a cluster",
		Long: `Prints every Pod and every pod template as its pods would be admitted. A pod template may be that of any
kind: a Deployment, a CronJob, a Knative Service, an Argo Rollout. Then prints the mesh objects that the
controller would create. All other documents are printed unchanged. A key of redis-tls that no pod gets is
warned about, and so is a Secret or ConfigMap of the manifests that lacks the CA.

The command runs the webhook's own code on a cluster that contains only these manifests. It reads the
Namespaces, Services and Certificates among them, and the ServiceEntries, DestinationRules, VirtualServices,
Sidecars and PeerAuthentications. In a real cluster, other objects can still cause a refusal.

Warnings are printed to the standard error. If a pod would be refused, the problems of all documents are
printed there, and the standard output has no objects. The exit status is then 79. It is 65 if a manifest
is not valid. Output json has the findings too, each with its file, line, object, path and reason, and output
sarif has only these.

Use the output for review and comparison. Apply the manifests themselves; the cluster adds the rest.`,
		Example: `  redis-tls inject -f deployment.yaml
  redis-tls inject -f manifests/ -n shop --namespace-file namespace.yaml -o diff
  helm template shop ./chart | redis-tls inject -f - --values redis-tls-values.yaml`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return runInject(flags, command.InOrStdin(), command.OutOrStdout(), command.ErrOrStderr())
		},
	}
	f := command.Flags()
	f.StringArrayVarP(
		&flags.files,
		"filename",
		"f",
		nil,
		"file, directory of *.yaml, *.yml and *.json files, or - for the standard input; repeatable",
	)
	f.StringVarP(
		&flags.namespace,
		"namespace",
		"n",
		"",
		`namespace of objects that do not set one (default: the one of --namespace-file, else "default")`,
	)
	f.StringVar(
		&flags.namespaceFile,
		"namespace-file",
		"",
		"file with Namespaces, in addition to those in the manifests, for their labels and annotations",
	)
	f.StringVar(
		&flags.values,
		"values",
		"",
		"values file of the Helm chart, for its defaults, policy and vip (default: the chart's own values)",
	)
	f.StringVarP(&flags.output, "output", "o", "yaml", "format of the output: yaml, json, diff or sarif")
	if err := command.MarkFlagRequired("filename"); err != nil {
		panic(err) // the flag is defined above
	}
	return command
}

// runInject reads, previews and prints.
func runInject(flags injectFlags, in io.Reader, out, errOut io.Writer) error {
	if !slices.Contains([]string{"yaml", "json", "diff", "sarif"}, flags.output) {
		return exit.With(exit.Usage, fmt.Errorf("--output must be yaml, json, diff or sarif, got %q", flags.output))
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
	result.Findings = slices.Concat(preview.ReadErrors(readErr), result.Findings)
	problems := reportFindings(result.Findings, errOut)
	if problems != nil && !slices.Contains([]string{"json", "sarif"}, flags.output) {
		return problems
	}
	return errors.Join(printResult(flags.output, input.Files, before, result, out), problems)
}

// reportFindings prints the warnings, and returns the problems as one error. Manifests that are not valid have another
// exit status than refused pods.
func reportFindings(findings []preview.Finding, errOut io.Writer) error {
	var problems []error
	code := exit.Findings
	for _, f := range findings {
		if f.Severity == preview.Warning {
			fmt.Fprintf(errOut, "warning: %s\n", f)
			continue
		}
		problems = append(problems, errors.New(f.String()))
		if f.Reason == preview.ReasonInvalidManifest {
			code = exit.Input
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return exit.With(code, errors.Join(problems...))
}

// readInput reads the files of the flags. If some manifests cannot be read, it returns the others with the error, so
// that their problems are reported too.
func readInput(flags injectFlags, in io.Reader) (*preview.Input, error) {
	input := preview.Input{Namespace: flags.namespace, Config: config.Default()}
	var errs []error
	if flags.values != "" {
		values, err := os.ReadFile(flags.values)
		if err != nil {
			return nil, fmt.Errorf("--values: %w", err)
		}
		if input.Config, err = annotation.ParseValues(values); err != nil {
			return nil, exit.With(exit.Input, fmt.Errorf("--values %s: %w", flags.values, err))
		}
	}
	if flags.namespaceFile != "" {
		files, err := manifest.Read(flags.namespaceFile, in)
		if err != nil {
			return nil, fmt.Errorf("--namespace-file: %w", err)
		}
		namespaces := preview.Namespaces(files)
		if len(namespaces) == 0 {
			return nil, exit.With(exit.Input, fmt.Errorf(
				"--namespace-file: %s: must contain a Namespace; use a file with one", flags.namespaceFile))
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

func printResult(format string, files []*manifest.File, before []string, result preview.Result, out io.Writer) error {
	var text string
	var err error
	switch format {
	case "json":
		text, err = preview.JSON(files, result.Created, result.Findings)
	case "sarif":
		text, err = preview.SARIF(result.Findings, version)
	case "diff":
		return preview.Diff(out, files, before, result.Created, term.NewPainter(out))
	default:
		text, err = preview.YAML(preview.Texts(files), result.Created)
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, text)
	return err
}
