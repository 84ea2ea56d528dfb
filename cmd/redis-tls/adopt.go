package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	kyaml "sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/adopt"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/exit"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/preview"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/term"
)

// adoptFlags are the flags of redis-tls adopt.
type adoptFlags struct {
	injectFlags
	workloads   []string
	write       bool
	keepObjects bool
}

func newAdoptCommand() *cobra.Command {
	var flags adoptFlags
	command := &cobra.Command{
		Use:   "adopt -f FILE|DIR|-",
		Short: "Replace hand-written Istio objects by annotations",
		Long: `Finds hand-written TLS origination in manifests: ServiceEntry and DestinationRule, the VirtualService and the
host aliases that belong to them, and the volumes of the sidecar. Prints for each workload the annotations
that replace them, what becomes safer, and what to check before. Then prints the objects that go, in order.
What it cannot translate is left, with the reason.

The webhook's own code admits each proposed pod, together with the objects that stay. A workload that would
be refused is left. The command does not guess: if it cannot see which workload uses a rule, it names the
candidates, and --workload chooses.

Without --write it changes nothing, and prints a diff. With --write it edits the files in place, and keeps
comments. Pods of the old template need the hand-written objects until they have been replaced. For a change
without a gap, apply the output of --keep-objects first. When all pods have been replaced, run adopt again.

The exit status is 79 if something was left.`,
		Example: `  redis-tls adopt -f manifests/
  redis-tls adopt -f manifests/ --write --keep-objects
  redis-tls adopt -f mesh.yaml -f deployment.yaml --workload deploy/cart -o yaml`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return runAdopt(flags, command.InOrStdin(), command.OutOrStdout())
		},
	}
	f := command.Flags()
	addFilesFlag(command, &flags.files)
	f.StringVarP(&flags.namespace, "namespace", "n", "",
		`namespace of objects that do not set one (default: the one of --namespace-file, else "default")`)
	f.StringVar(&flags.namespaceFile, "namespace-file", "",
		"file with Namespaces, in addition to those in the manifests, for their labels and annotations")
	f.StringVar(&flags.values, "values", "",
		"values file of the Helm chart, for its defaults, policy and vip (default: the chart's own values)")
	f.StringVarP(&flags.output, "output", "o", "table", "format of the output: table, diff, json or yaml")
	f.StringArrayVar(&flags.workloads, "workload", nil,
		"workload that uses the hand-written objects, as in deploy/cart; repeatable (default: found in the manifests)")
	f.BoolVar(&flags.write, "write", false, "edit the files in place")
	f.BoolVar(&flags.keepObjects, "keep-objects", false,
		"only add the annotations; keep the hand-written objects and volumes for running pods")
	if err := command.MarkFlagRequired("filename"); err != nil {
		panic(err) // the flag is defined above
	}
	return command
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

func printPlan(plan *adopt.Plan, format string, out io.Writer) error {
	var text []byte
	var err error
	switch format {
	case "json":
		text, err = json.MarshalIndent(plan, "", "  ")
		text = append(text, '\n')
	case "yaml":
		text, err = kyaml.Marshal(plan)
	case "table":
		return plan.Print(out)
	}
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
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
