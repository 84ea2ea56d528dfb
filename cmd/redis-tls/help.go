package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
)

// kubectlFlag is the annotation of a flag that has the name and the meaning of kubectl's.
const kubectlFlag = "kubectl"

// markKubectlFlags marks the flags of a command that are those of every kubectl command. The help only names them.
func markKubectlFlags(command *cobra.Command) {
	if command.Flags().Lookup("kubeconfig") == nil {
		return
	}
	kubectl := pflag.NewFlagSet("", pflag.ContinueOnError)
	genericclioptions.NewConfigFlags(true).AddFlags(kubectl)
	kubectl.VisitAll(func(f *pflag.Flag) {
		own := command.Flags().Lookup(f.Name)
		switch {
		case own == nil || own.Usage != f.Usage: // the command has changed it
		case f.Name == "namespace":
			own.Usage = "namespace (default: the one of the kubeconfig's context)"
		default:
			own.Annotations = map[string][]string{kubectlFlag: {"true"}}
		}
	})
}

// ownFlags returns the flags of a command that are not kubectl's, and the names of the others.
func ownFlags(command *cobra.Command) (own *pflag.FlagSet, kubectl []string) {
	own = pflag.NewFlagSet("", pflag.ContinueOnError)
	command.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Annotations[kubectlFlag] != nil {
			kubectl = append(kubectl, "--"+f.Name)
		} else {
			own.AddFlag(f)
		}
	})
	return own, kubectl
}

// printUsage prints the usage of a command as cobra does, but with kubectl's flags by name only.
func printUsage(command *cobra.Command) error {
	var b strings.Builder
	use := command.UseLine()
	if command.HasAvailableSubCommands() {
		use = command.CommandPath() + " COMMAND"
	}
	fmt.Fprintf(&b, "Usage:\n  %s\n", use)
	if command.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", command.Example)
	}
	if command.HasAvailableSubCommands() {
		b.WriteString("\nCommands:\n")
		for _, c := range command.Commands() {
			if c.IsAvailableCommand() {
				fmt.Fprintf(&b, "  %-*s %s\n", c.NamePadding(), c.Name(), c.Short)
			}
		}
	}
	own, kubectl := ownFlags(command)
	if own.HasAvailableFlags() {
		fmt.Fprintf(&b, "\nFlags:\n%s", own.FlagUsagesWrapped(100))
	}
	if len(kubectl) > 0 {
		b.WriteString("\nFlags as of kubectl, see \"kubectl options\":\n")
		for _, line := range wrap(strings.Join(kubectl, " "), 98) {
			b.WriteString("  " + line + "\n")
		}
	}
	if command.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\nUse \"%s COMMAND --help\" for more about a command.\n", command.CommandPath())
	}
	_, err := fmt.Fprint(command.OutOrStderr(), b.String())
	return err
}
