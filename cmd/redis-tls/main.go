// Command redis-tls is the command line of the project, for users and pipelines.
//
// Its exit statuses are those of package exit. As kubectl-redis_tls on the PATH it is the plugin `kubectl redis-tls`.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/exit"
)

func main() {
	command := newCommand()
	command.SetIn(os.Stdin)
	command.SetOut(os.Stdout)
	command.SetErr(os.Stderr)
	if strings.HasPrefix(filepath.Base(os.Args[0]), "kubectl-") {
		command.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl redis-tls"}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := execute(ctx, command)
	stop()
	os.Exit(exit.Code(err))
}

// execute runs the command, and reports the error that it returns. An error that the command itself did not return is
// one of flags or arguments.
func execute(ctx context.Context, command *cobra.Command) error {
	err := command.ExecuteContext(ctx)
	if err != nil {
		report(command.ErrOrStderr(), err)
		if !exit.HasCode(err) {
			err = exit.With(exit.Usage, err)
		}
	}
	return err
}

// newCommand returns the command with its subcommands.
func newCommand() *cobra.Command {
	command := &cobra.Command{
		Use:           "redis-tls",
		Short:         "TLS to Redis by annotation, originated by the pod's Istio sidecar",
		SilenceErrors: true, // report prints the errors
		SilenceUsage:  true,
	}
	command.CompletionOptions.HiddenDefaultCmd = true
	command.SetUsageFunc(printUsage)
	command.AddCommand(
		newCheckCommand(),
		newDescribeCommand(),
		newExplainCommand(),
		newInjectCommand(),
		newProbeCommand(),
		newAdoptCommand(),
		newUninjectCommand(),
		newVersionCommand(),
	)
	for _, c := range command.Commands() {
		markKubectlFlags(c)
		addCompletion(c)
		if run := c.RunE; run != nil {
			c.RunE = func(c *cobra.Command, args []string) error {
				err := run(c, args)
				if err == nil {
					return nil
				}
				return exit.With(exit.Code(err), err)
			}
		}
	}
	return command
}

// report prints each line of an error as an error.
func report(out io.Writer, err error) {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(out, "error: %s\n", strings.TrimSuffix(line, "\n"))
	}
}
