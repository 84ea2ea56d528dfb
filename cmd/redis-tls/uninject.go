package main

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/adopt"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/exit"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/manifest"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/preview"
)

func newUninjectCommand() *cobra.Command {
	var files []string
	command := &cobra.Command{
		Use:   "uninject -f FILE|DIR|-",
		Short: "Print manifests without what redis-tls wrote into them",
		Long: `Prints manifests as they were before "redis-tls inject". It removes what the webhook adds to each Pod and
each pod template: labels, host aliases, volumes, mounts, the scheduling gate, and three annotations. These
are status, vips and first-use. It also removes the mesh objects that redis-tls manages. The annotations of
the user stay, and so do all other volumes, aliases and labels.

Use it for objects that were exported from a cluster, or if the output of inject was committed by mistake.`,
		Example: `  redis-tls uninject -f injected.yaml
  kubectl get pod cart -o yaml | redis-tls uninject -f -`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return runUninject(files, command.InOrStdin(), command.OutOrStdout())
		},
	}
	addFilesFlag(command, &files)
	if err := command.MarkFlagRequired("filename"); err != nil {
		panic(err) // the flag is defined above
	}
	return command
}

// addFilesFlag adds the flag -f of commands that read manifests.
func addFilesFlag(command *cobra.Command, files *[]string) {
	command.Flags().StringArrayVarP(files, "filename", "f", nil,
		"file, directory of *.yaml, *.yml and *.json files, or - for the standard input; repeatable")
}

// readManifests reads the files of the flag -f.
func readManifests(names []string, in io.Reader) (files []*manifest.File, err error) {
	var errs []error
	for _, name := range names {
		read, err := manifest.Read(name, in)
		files = append(files, read...)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, exit.With(exit.Input, err)
	}
	return files, nil
}

func runUninject(names []string, in io.Reader, out io.Writer) error {
	files, err := readManifests(names, in)
	if err != nil {
		return err
	}
	if err := adopt.Uninject(files); err != nil {
		return exit.With(exit.Input, err)
	}
	text, err := preview.YAML(preview.Texts(files), nil)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, text)
	return err
}
