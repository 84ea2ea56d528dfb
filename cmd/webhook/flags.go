package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/server"
	"github.com/redis-tls/redis-tls/internal/servingcert"
)

// namespaceVariable is the environment variable with the replica's namespace, from the downward API.
const namespaceVariable = "POD_NAMESPACE"

// defaultConfiguration is the chart's MutatingWebhookConfiguration.
const defaultConfiguration = "00-redis-tls"

// flags are the flags of the server. The default names of objects are the chart's.
type flags struct {
	config         string
	configMap      string
	server         server.Options
	metricsAddress string
	healthAddress  string
	profileAddress string
	leaderElect    bool
	leaseDuration  time.Duration
	renewDeadline  time.Duration
	retryPeriod    time.Duration
	certificate    servingcert.Options
	log            zap.Options
}

func (f *flags) register(set *pflag.FlagSet) {
	set.StringVar(
		&f.config,
		"config",
		"/etc/redis-tls-webhook/config.yaml",
		"configuration file, with keys of the chart's values.yaml",
	)
	set.StringVar(
		&f.configMap,
		"config-map",
		"redis-tls-webhook",
		"ConfigMap of the configuration file, in the namespace of the webhook: a change of its policy needs no restart",
	)
	set.StringVar(&f.server.Host, "webhook-host", "", "address of the webhook server; empty: all addresses")
	set.IntVar(&f.server.Port, "webhook-port", 9443, "port of the webhook server")
	set.DurationVar(
		&f.server.ShutdownDelay,
		"shutdown-delay",
		10*time.Second,
		"time that an unready replica still serves the webhook after SIGTERM",
	)
	set.StringVar(
		&f.server.Clients.CAFile,
		"client-ca-file",
		"",
		"CA bundle (PEM) of client certificates; empty: no client certificate is required",
	)
	set.StringSliceVar(
		&f.server.Clients.Names,
		"client-names",
		nil,
		"common or DNS names, one of which the client certificate must have; empty: any name",
	)
	set.StringVar(&f.metricsAddress, "metrics-bind-address", ":8080", `address of /metrics; "0": none`)
	set.StringVar(&f.healthAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz")
	set.StringVar(
		&f.profileAddress,
		"pprof-bind-address",
		"",
		"address of /debug/pprof, which exposes the content of memory; empty: none",
	)
	set.BoolVar(
		&f.leaderElect,
		"leader-elect",
		false,
		"run the controller only on the leader; required with several replicas",
	)
	set.DurationVar(
		&f.leaseDuration,
		"leader-elect-lease-duration",
		15*time.Second,
		"time after the last renewal of the lease at which another replica becomes the leader",
	)
	set.DurationVar(
		&f.renewDeadline,
		"leader-elect-renew-deadline",
		10*time.Second,
		"time for which the leader retries a failed renewal",
	)
	set.DurationVar(&f.retryPeriod, "leader-elect-retry-period", 2*time.Second, "time between two tries")
	set.StringVar(
		(*string)(&f.certificate.Mode),
		"cert-mode",
		string(servingcert.SelfSigned),
		fmt.Sprintf("source of the serving certificate, one of %q; only self-signed writes its Secret", servingcert.Modes),
	)
	set.StringVar(
		&f.certificate.CABundleFile,
		"cert-ca-bundle-file",
		"",
		"CA bundle (PEM) of the serving certificate, if its Secret has no ca.crt; cannot be used with self-signed",
	)
	set.DurationVar(
		&f.certificate.PropagationDelay,
		"ca-propagation-delay",
		servingcert.DefaultPropagationDelay,
		"time for API servers to see a new CA before its certificate replaces a valid one",
	)
	set.StringVar(
		&f.certificate.Secret,
		"cert-secret",
		"redis-tls-webhook-cert",
		"Secret of the serving certificate, in the namespace of the webhook",
	)
	set.StringVar(
		&f.certificate.Configuration,
		"webhook-configuration",
		defaultConfiguration,
		"MutatingWebhookConfiguration to write the CA of the serving certificate to",
	)
	set.StringVar(
		&f.certificate.Service,
		"service",
		"redis-tls-webhook",
		"Service of the webhook, in the namespace of the webhook",
	)
	f.log.BindFlags(flag.CommandLine)
	set.AddGoFlagSet(flag.CommandLine) // --kubeconfig of controller-runtime, and --zap-*
}

// complete reads the configuration file and the environment.
func (f *flags) complete() (config.Config, error) {
	f.certificate.Namespace = os.Getenv(namespaceVariable)
	if f.certificate.Namespace == "" {
		return config.Config{}, errors.New(
			"the environment variable " + namespaceVariable + " must be set to the namespace of the webhook",
		)
	}
	content, err := os.ReadFile(f.config)
	if err != nil {
		return config.Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	cfg, err := annotation.ParseConfig(content)
	if err != nil {
		return config.Config{}, fmt.Errorf("reading the configuration %s: %w", f.config, err)
	}
	return cfg, nil
}
