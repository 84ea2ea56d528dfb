// Command webhook is the server in the cluster. Every replica serves the admission webhook, and the leader runs the
// controller.
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
		Short: "Serve the admission webhook of redis-tls and run its controller",
		Args:  cobra.NoArgs,
		// The image has no shell.
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		// Errors of run are not about flags, and main prints them.
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
