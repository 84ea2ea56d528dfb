package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/live"
)

// completeNamespace completes the flag --namespace of the command from the cluster.
func completeNamespace(command *cobra.Command, flags *genericclioptions.ConfigFlags) {
	err := command.RegisterFlagCompletionFunc("namespace", complete(flags, (*live.Client).NamespaceNames))
	if err != nil {
		panic(err) // the command has the flag
	}
}

// completeWorkload returns a completion of names such as deploy/cart from the cluster.
func completeWorkload(flags *genericclioptions.ConfigFlags) cobra.CompletionFunc {
	return complete(flags, (*live.Client).WorkloadNames)
}

// complete returns a completion by names that are read from the cluster. Without a cluster there are none.
func complete(
	flags *genericclioptions.ConfigFlags, names func(*live.Client, context.Context) []string,
) cobra.CompletionFunc {
	return func(command *cobra.Command, _ []string, begin string) ([]string, cobra.ShellCompDirective) {
		client, err := live.Connect(flags)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var found []string
		for _, name := range names(client, command.Context()) {
			if strings.HasPrefix(name, begin) {
				found = append(found, name)
			}
		}
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}
