package main

import (
	"flag"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/redis-tls/redis-tls/internal/uninstall"
)

// newUninstallCommand returns the command that the chart's pre-delete hook runs.
func newUninstallCommand() *cobra.Command {
	u := uninstall.Uninstaller{Clock: clock.RealClock{}}
	command := &cobra.Command{
		Use:   "uninstall",
		Short: "Delete the webhook's configuration and free the pods that wait at the first-use gate",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			ctrl.SetLogger(zap.New())
			u.Log = ctrl.Log.WithName("uninstall")
			config, err := ctrl.GetConfig()
			if err != nil {
				return fmt.Errorf("finding the API server: %w", err)
			}
			if u.Client, err = client.New(config, client.Options{Scheme: clientgoscheme.Scheme}); err != nil {
				return err
			}
			return u.Run(command.Context())
		},
	}
	command.Flags().StringVar(
		&u.Configuration,
		"webhook-configuration",
		defaultConfiguration,
		"MutatingWebhookConfiguration to delete",
	)
	command.Flags().BoolVar(&u.Gates, "first-use-gate", true, "pods may wait at the first-use gate (firstUse.gate)")
	command.Flags().DurationVar(
		&u.Patience,
		"patience",
		30*time.Second,
		"time for the controller to free waiting pods by itself",
	)
	command.Flags().AddGoFlag(flag.Lookup("kubeconfig"))
	return command
}
