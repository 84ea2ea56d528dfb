package check

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/mesh"
)

var fileChecks = []Check{
	{
		ID: "tls-files-exist", Category: Workloads, Severity: Error,
		Title: "the Secrets and ConfigMaps with its TLS files exist",
		Why:   "A pod that mounts a missing Secret or ConfigMap stays in ContainerCreating.",
		Fix: "Create the Secret or the ConfigMap that the finding names. For an issuer, see `kubectl " +
			"describe certificate`.",
		Needs: []Source{sourceFiles},
		After: []string{"workload-requests-tls"},
		run:   checkFilesExist,
	},
	{
		ID: "tls-files-valid", Category: Workloads, Severity: Error,
		Title: "its CA bundles and client certificates are valid",
		Why:   "The sidecar rejects a file that it cannot parse, and servers refuse a wrong client certificate.",
		Fix:   "Replace the file that the finding names.",
		Needs: []Source{sourceFiles},
		After: []string{"tls-files-exist"},
		run:   checkFilesValid,
	},
	{
		ID: "tls-files-expiry", Category: Workloads, Severity: Warning,
		Title: "its CA bundles and client certificates are valid for 30 days",
		Why:   "New connections fail when the certificate expires.",
		Fix:   "Renew the certificate. A mounted file is updated without a restart.",
		Needs: []Source{sourceFiles},
		After: []string{"tls-files-valid"},
		run:   checkFilesExpiry,
	},
}

func checkFilesExist(in *Input) Result {
	var found []string
	for _, f := range in.Workload.Files {
		if f.Presence == mesh.Absent {
			found = append(found, f.String()+": must exist")
			continue
		}
		keys := slices.Clone(f.CAs)
		if f.Client {
			keys = append(keys, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
		}
		for _, key := range slices.Compact(keys) {
			if len(f.Data[key]) == 0 {
				found = append(found, fmt.Sprintf("%s: key %s: must exist", f.String(), key))
			}
		}
	}
	return failed("", found...)
}

func checkFilesValid(in *Input) Result {
	var found []string
	for _, f := range in.Workload.Files {
		for _, key := range f.CAs {
			if rule := bundleProblem(f.Data[key], in.Now); rule != "" {
				found = append(found, fmt.Sprintf("%s: key %s: %s", f.String(), key, rule))
			}
		}
		if f.Client {
			if rule := clientProblem(f.Data, in.Now); rule != "" {
				found = append(found, fmt.Sprintf("%s: key %s: %s", f.String(), corev1.TLSCertKey, rule))
			}
		}
	}
	return failed("", found...)
}

// bundleProblem says what is wrong with a CA bundle, or returns "".
func bundleProblem(bundle []byte, now time.Time) string {
	all := certificates(bundle)
	if len(all) == 0 {
		return "must have a certificate in PEM"
	}
	if !slices.ContainsFunc(all, func(c *x509.Certificate) bool { return now.Before(c.NotAfter) }) {
		return fmt.Sprintf("expired on %s: must have a CA that is not expired", day(last(all)))
	}
	return ""
}

// last returns when the last of the certificates expires.
func last(all []*x509.Certificate) time.Time {
	var end time.Time
	for _, c := range all {
		if c.NotAfter.After(end) {
			end = c.NotAfter
		}
	}
	return end
}

// clientProblem says what is wrong with a client certificate and its key, or returns "".
func clientProblem(data map[string][]byte, now time.Time) string {
	chain := certificates(data[corev1.TLSCertKey])
	if len(chain) == 0 {
		return "must have a certificate in PEM"
	}
	if _, err := tls.X509KeyPair(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey]); err != nil {
		return fmt.Sprintf("must be the certificate of the key %s: %v", corev1.TLSPrivateKeyKey, err)
	}
	for i, c := range chain[1:] {
		if err := chain[i].CheckSignatureFrom(c); err != nil {
			return fmt.Sprintf("certificate %d must be signed by the next one: %s", i+1, verifyText(err))
		}
	}
	leaf := chain[0]
	switch {
	case !now.Before(leaf.NotAfter):
		return fmt.Sprintf("expired on %s: must be renewed", day(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		return fmt.Sprintf("is valid from %s: must be valid now", day(leaf.NotBefore))
	case len(leaf.ExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) &&
		!slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny):
		return "must have the extended key usage clientAuth"
	}
	return ""
}

// soon is the time before an expiry from which on it is reported.
const soon = 30 * 24 * time.Hour

func checkFilesExpiry(in *Input) Result {
	var found []string
	for _, f := range in.Workload.Files {
		for _, key := range f.CAs {
			if end := last(certificates(f.Data[key])); end.Sub(in.Now) < soon {
				found = append(found, fmt.Sprintf("%s: key %s: expires on %s: must be renewed", f.String(), key, day(end)))
			}
		}
		if f.Client {
			if end := certificates(f.Data[corev1.TLSCertKey])[0].NotAfter; end.Sub(in.Now) < soon {
				found = append(found, fmt.Sprintf("%s: key %s: expires on %s: must be renewed",
					f.String(), corev1.TLSCertKey, day(end)))
			}
		}
	}
	return failed("", found...)
}
