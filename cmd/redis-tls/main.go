// Command redis-tls is the command line of the project, for users and pipelines. It connects to no cluster.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func main() {
	command := newCommand()
	command.SetIn(os.Stdin)
	command.SetOut(os.Stdout)
	command.SetErr(os.Stderr)
	if err := command.Execute(); err != nil {
		report(command, err)
		os.Exit(1)
	}
}

// newCommand returns the command with its subcommands.
func newCommand() *cobra.Command {
	command := &cobra.Command{
		Use:           "redis-tls",
		Short:         "TLS to Redis by annotation, originated by the pod's Istio sidecar",
		SilenceErrors: true, // report prints the errors
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
	}
	command.CompletionOptions.HiddenDefaultCmd = true
	command.AddCommand(newInjectCommand(), newVersionCommand())
	return command
}

// report prints each line of an error as an error.
func report(command *cobra.Command, err error) {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(command.ErrOrStderr(), "error: %s\n", strings.TrimSuffix(line, "\n"))
	}
}
