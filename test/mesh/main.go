// Command mesh has the parts of Istio that the tests run, in one binary: istiod (pilot-discovery) and pilot-agent,
// which are the unchanged upstream commands, and two small tools on Istio's packages, adsdump and istio-analyze. The
// name of the symlink with which it is started selects one.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	meshconfig "istio.io/api/mesh/v1alpha1"
	agent "istio.io/istio/pilot/cmd/pilot-agent/app"
	discovery "istio.io/istio/pilot/cmd/pilot-discovery/app"
	istioagent "istio.io/istio/pkg/istio-agent"
	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/security"
	"istio.io/istio/security/pkg/nodeagent/sds"
)

func main() {
	if err := run(filepath.Base(os.Args[0])); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(name string) error {
	switch name {
	case "istiod":
		return istio(discovery.NewRootCommand())
	case "pilot-agent":
		return istio(agent.NewRootCommand(newSDS))
	case "adsdump":
		return adsdump(os.Args[1:], os.Stdout)
	case "istio-analyze":
		return analyze(os.Args[1:], os.Stdin, os.Stdout)
	default:
		return fmt.Errorf("mesh: started as %q; start it as istiod, pilot-agent, adsdump or istio-analyze", name)
	}
}

func istio(command *cobra.Command) error {
	log.EnableKlogWithCobra()
	return command.Execute()
}

// newSDS is the argument that the upstream pilot-agent's main gives its command.
func newSDS(
	o *security.Options, cache security.SecretManager, key *meshconfig.PrivateKeyProvider,
) istioagent.SDSService {
	return sds.NewServer(o, cache, key)
}
