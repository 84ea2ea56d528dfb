package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version and revision, which is the commit, are set by the build of a release (release/build.sh).
var version, revision string

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(command *cobra.Command, _ []string) {
			fmt.Fprintf(command.OutOrStdout(), "redis-tls %s, commit %s, %s\n", releaseOrBuild(), commit(), runtime.Version())
		},
	}
}

// commit returns the commit of the build, or "unknown".
func commit() string {
	if revision != "" {
		return revision
	}
	info, _ := debug.ReadBuildInfo()
	if info != nil {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				return setting.Value
			}
		}
	}
	return "unknown"
}

// releaseOrBuild returns the release or, without one, the module version of the build, which may be "(devel)".
func releaseOrBuild() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
