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

// namespaceVariable is the environment variable with the replica's own namespace (the downward API).
const namespaceVariable = "POD_NAMESPACE"

// defaultConfiguration is the chart's MutatingWebhookConfiguration.
const defaultConfiguration = "00-redis-tls"

// flags are the command line. The names of the objects are the chart's.
type flags struct {
	config         string
	server         server.Options
	metricsAddress string
	healthAddress  string
	profileAddress string
	leaderElect    bool
	certificate    servingcert.Options
	log            zap.Options
}

func (f *flags) register(set *pflag.FlagSet) {
	set.StringVar(&f.config, "config", "/etc/redis-tls-webhook/config.yaml", "file with the configuration: the keys of the chart's values.yaml")
	set.StringVar(&f.server.Host, "webhook-host", "", "address to serve the webhook on; empty: all")
	set.IntVar(&f.server.Port, "webhook-port", 9443, "port to serve the webhook on")
	set.DurationVar(&f.server.ShutdownDelay, "shutdown-delay", 10*time.Second, "how long the webhook is still served after SIGTERM, while it is not ready any more")
	set.StringVar(&f.server.Clients.CAFile, "client-ca-file", "", "bundle of CAs (PEM), one of which must have signed the certificate of whoever calls the webhook; empty: everybody may call it")
	set.StringSliceVar(&f.server.Clients.Names, "client-names", nil, "common or DNS names, one of which that certificate must carry; empty: any")
	set.StringVar(&f.metricsAddress, "metrics-bind-address", ":8080", `address to serve /metrics on; "0": none`)
	set.StringVar(&f.healthAddress, "health-probe-bind-address", ":8081", "address to serve /healthz and /readyz on")
	set.StringVar(&f.profileAddress, "pprof-bind-address", "", "address to serve /debug/pprof on, which shows what is in memory; empty: none")
	set.BoolVar(&f.leaderElect, "leader-elect", false, "run the controller only on the replica that leads; needed with several replicas")
	set.StringVar((*string)(&f.certificate.Mode), "cert-mode", string(servingcert.SelfSigned), fmt.Sprintf("who makes the serving certificate: %q; but for self-signed its Secret is only read", servingcert.Modes))
	set.StringVar(&f.certificate.CABundleFile, "cert-ca-bundle-file", "", "PEM file with the CAs of the serving certificate, where its Secret has no ca.crt; not with self-signed")
	set.DurationVar(&f.certificate.PropagationDelay, "ca-propagation-delay", servingcert.DefaultPropagationDelay, "how long API servers are given to see a new CA before a certificate of it replaces one that still holds")
	set.StringVar(&f.certificate.Secret, "cert-secret", "redis-tls-webhook-cert", "Secret, in the own namespace, that holds the serving certificate")
	set.StringVar(&f.certificate.Configuration, "webhook-configuration", defaultConfiguration, "MutatingWebhookConfiguration to give the certificate's CA to")
	set.StringVar(&f.certificate.Service, "service", "redis-tls-webhook", "Service, in the own namespace, that leads to the webhook")
	f.log.BindFlags(flag.CommandLine)
	set.AddGoFlagSet(flag.CommandLine) // --kubeconfig of controller-runtime, and --zap-*
}

// complete reads what the flags only name.
func (f *flags) complete() (config.Config, error) {
	f.certificate.Namespace = os.Getenv(namespaceVariable)
	if f.certificate.Namespace == "" {
		return config.Config{}, errors.New("the environment variable " + namespaceVariable + " must hold the own namespace")
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
