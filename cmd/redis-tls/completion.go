package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	crclient "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/check"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/live"
	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// completionTimeout is how long a completion waits for the API server.
const completionTimeout = 3 * time.Second

// completionPage is how many objects of a kind a completion reads.
const completionPage = 500

// addCompletion lets the shell complete the flags of a command, with names from the cluster where a flag names one.
func addCompletion(command *cobra.Command) {
	flags := command.Flags()
	complete := func(name string, values func(*cobra.Command, string) []string) {
		if flags.Lookup(name) == nil {
			return
		}
		err := command.RegisterFlagCompletionFunc(name, func(
			command *cobra.Command, _ []string, prefix string,
		) ([]string, cobra.ShellCompDirective) {
			return begun(values(command, prefix), prefix), cobra.ShellCompDirectiveNoFileComp
		})
		if err != nil {
			panic(err) // the flag exists, and is registered once
		}
	}
	if flag := flags.Lookup("output"); flag != nil {
		formats := formatsOf(flag)
		complete("output", func(*cobra.Command, string) []string { return formats })
	}
	complete("only", checkIDs)
	complete("skip", checkIDs)
	if flags.Lookup("kubeconfig") == nil {
		return
	}
	namespaces := func(c *cobra.Command, _ string) []string { return namesOf(c, "namespaces", "") }
	complete("namespace", namespaces)
	complete("install-namespace", namespaces)
	complete("context", contexts)
	complete("workload", workloadNames)
	complete("from", func(c *cobra.Command, _ string) []string { return namesOf(c, "pods", "pod/") })
}

// completeWorkloads completes TYPE/NAME from the cluster, and TYPE/ before there is a slash.
func completeWorkloads(command *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	directive := cobra.ShellCompDirectiveNoFileComp
	if !strings.Contains(prefix, "/") {
		directive |= cobra.ShellCompDirectiveNoSpace
	}
	return begun(workloadNames(command, prefix), prefix), directive
}

func workloadNames(command *cobra.Command, prefix string) []string {
	kind, _, named := strings.Cut(prefix, "/")
	if !named {
		return []string{"pod/", "deploy/", "sts/", "ds/", "job/", "cronjob/"}
	}
	return namesOf(command, kind, kind+"/")
}

// begun returns the values that begin with the prefix.
func begun(values []string, prefix string) []string {
	return slices.DeleteFunc(values, func(v string) bool { return !strings.HasPrefix(v, prefix) })
}

// completeKeys completes annotation keys.
func completeKeys(_ *cobra.Command, _ []string, prefix string) ([]string, cobra.ShellCompDirective) {
	var keys []string
	for _, k := range annotation.Keys() {
		key := k.Name
		if strings.Contains(prefix, "/") {
			key = origination.Prefix + k.Name
		}
		keys = append(keys, key)
	}
	return begun(keys, prefix), cobra.ShellCompDirectiveNoFileComp
}

// formatsOf returns the values of an --output flag, which are in its description: "…: table, json or yaml".
func formatsOf(flag *pflag.Flag) []string {
	_, list, _ := strings.Cut(flag.Usage, ": ")
	var formats []string
	for _, part := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		switch part {
		case "table", "short", "json", "yaml", "diff", "sarif":
			formats = append(formats, part)
		}
	}
	return formats
}

// checkIDs returns the ids of all checks, as continuations of a comma list.
func checkIDs(_ *cobra.Command, prefix string) []string {
	before := prefix[:strings.LastIndex(prefix, ",")+1]
	var ids []string
	for _, c := range check.Checks() {
		ids = append(ids, before+c.ID)
	}
	return ids
}

// namesOf returns the names of the objects of a kind, each after the prefix. The kind is one of kubectl's names for it.
// Without an answer of the cluster there are none.
func namesOf(command *cobra.Command, kind, prefix string) []string {
	names, err := listNames(command, kind)
	if err != nil {
		cobra.CompDebugln(err.Error(), false)
	}
	for i := range names {
		names[i] = prefix + names[i]
	}
	return names
}

// listNames lists the names of a kind's objects in the namespace, without the objects.
func listNames(command *cobra.Command, kind string) (names []string, err error) {
	client, err := live.Connect(kubectlFlagsOf(command))
	if err != nil {
		return nil, err
	}
	mapper, err := client.Getter.ToRESTMapper()
	if err != nil {
		return nil, err
	}
	mapped, err := mapper.KindFor(schema.GroupVersionResource{Resource: kind})
	if err != nil {
		return nil, err
	}
	mapping, err := mapper.RESTMapping(mapped.GroupKind(), mapped.Version)
	if err != nil {
		return nil, err
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(mapped.GroupVersion().WithKind(mapped.Kind + "List"))
	options := []crclient.ListOption{crclient.Limit(completionPage)}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		options = append(options, crclient.InNamespace(client.Namespace))
	}
	ctx, cancel := context.WithTimeout(command.Context(), completionTimeout)
	defer cancel()
	if err := client.List(ctx, list, options...); err != nil {
		return nil, err
	}
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return names, nil
}

// contexts returns the contexts of the kubeconfig.
func contexts(command *cobra.Command, _ string) []string {
	config, err := kubectlFlagsOf(command).ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		cobra.CompDebugln(err.Error(), false)
		return nil
	}
	return slices.Sorted(maps.Keys(config.Contexts))
}

// kubectlFlagsOf returns the values of kubectl's flags on the command line.
func kubectlFlagsOf(command *cobra.Command) *genericclioptions.ConfigFlags {
	flags := live.Flags()
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.AddFlags(set)
	command.Flags().Visit(func(f *pflag.Flag) {
		own := set.Lookup(f.Name)
		if own == nil || own.Usage != f.Usage && f.Name != "namespace" {
			return
		}
		if list, is := f.Value.(pflag.SliceValue); is {
			_ = own.Value.(pflag.SliceValue).Replace(list.GetSlice()) // both are of one type
			return
		}
		_ = own.Value.Set(f.Value.String()) // it has been parsed as this type
	})
	return flags
}
