// Command webhook is the server in the cluster: the admission webhook on every replica, and the
// controller on the one that leads.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"
)

func main() {
	if err := newCommand().ExecuteContext(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var f flags
	command := &cobra.Command{
		Use:   "webhook",
		Short: "Serve the Redis TLS admission webhook and run its controller",
		Args:  cobra.NoArgs,
		// The image has no shell.
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		// Errors of the run are not about the flags, and main prints them.
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(command *cobra.Command, _ []string) error {
			return run(command.Context(), f)
		},
	}
	f.register(command.Flags())
	command.AddCommand(newVersionCommand(), newTestCommand(), newUninstallCommand())
	return command
}
