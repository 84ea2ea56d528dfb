package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/kubernetes"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/exit"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/probe"
)

// clusterOfProbe are kubectl's flags without those that could be read as flags for the Redis.
func clusterOfProbe() *genericclioptions.ConfigFlags {
	flags := genericclioptions.NewConfigFlags(true)
	flags.AuthInfoName = nil                     // --user
	flags.ClusterName = nil                      // --cluster
	flags.CertFile, flags.KeyFile = nil, nil     // --client-certificate, --client-key
	flags.CAFile, flags.TLSServerName = nil, nil // --certificate-authority, --tls-server-name
	flags.Insecure, flags.APIServer = nil, nil   // --insecure-skip-tls-verify, --server
	flags.BearerToken, flags.DisableCompression = nil, nil
	return flags
}

// collect returns the facts of the target: from this machine, or from a pod.
func collect(ctx context.Context, flags probeFlags, target probe.Target) (*probe.Report, error) {
	if flags.from == "" {
		return (&probe.Prober{Timeout: flags.timeout}).Probe(ctx, target)
	}
	source, err := readSource(flags, target)
	if err != nil {
		return nil, err
	}
	restConfig, err := flags.cluster.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	if source.Namespace, _, err = flags.cluster.ToRawKubeConfigLoader().Namespace(); err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		return nil, fmt.Errorf("making the client: %w", err)
	}
	report, err := probe.FromPod(ctx, client, source)
	if err != nil {
		return nil, err
	}
	// The CA and the roots of this machine decide, because the image may have none.
	return report, report.Verify(target.CA, x509.SystemCertPool, time.Now())
}

// readSource checks the flags for --from.
func readSource(flags probeFlags, target probe.Target) (probe.Source, error) {
	usage := func(format string, args ...any) (probe.Source, error) {
		return probe.Source{}, exit.With(exit.Usage, fmt.Errorf(format, args...))
	}
	kind, name, found := strings.Cut(flags.from, "/")
	switch {
	case !found || name == "" || !slices.Contains([]string{"pod", "pods", "po"}, kind):
		return usage("--from must be pod/NAME, got %q", flags.from)
	case flags.image == "":
		return usage("--from requires --image, an image that has redis-tls in its PATH")
	case flags.cert != "" || flags.passwordFile != "":
		return usage("--cert and --password-file cannot be used with --from, because the pod would store them; " +
			"run the probe in a pod that mounts them")
	}
	args := []string{"-o", "json", "--timeout", flags.timeout.String()}
	if target.SNI != "" {
		args = append(args, "--sni", target.SNI)
	}
	for _, address := range target.Addresses {
		args = append(args, "--address", address.String())
	}
	at := target.Host
	if target.Port != 0 {
		at = net.JoinHostPort(target.Host, strconv.Itoa(int(target.Port)))
	}
	return probe.Source{
		Pod: name, Image: flags.image, Args: append(args, at), Host: target.Host,
		GivenAddress: len(target.Addresses) > 0, Wait: flags.wait,
	}, nil
}
