package check

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/internal/origination"
)

var proxyChecks = []Check{
	{
		ID: "sidecar-clusters", Category: Proxy, Severity: Error,
		Title: "the sidecar has a cluster for each host and port",
		Why:   "Without it the sidecar lacks the entry, so the connection fails.",
		Fix:   "`istioctl proxy-status`: is the sidecar SYNCED with istiod?",
		Needs: []Source{sourceSidecar},
		After: []string{"pod-admitted", "objects-exist"},
		run:   checkClusters,
	},
	{
		ID: "sidecar-tls-context", Category: Proxy, Severity: Error,
		Title: "the sidecar originates TLS with the requested SNI, names and CA",
		Why:   "With other settings the sidecar connects in plaintext, to another server, or not at all.",
		Fix:   "`istioctl proxy-config clusters POD -n WORKLOAD_NAMESPACE -o json`",
		Needs: []Source{sourceSidecar},
		After: []string{"sidecar-clusters", "objects-unedited"},
		run:   checkTLSContexts,
	},
	{
		ID: "sidecar-certificates", Category: Proxy, Severity: Error,
		Title: "the sidecar has loaded the certificates of its Secrets and ConfigMaps",
		Why:   "With an older certificate, connections fail when it expires or when the server has another CA.",
		Fix: "A mounted file follows its Secret within two minutes. Otherwise: `kubectl -n " +
			"WORKLOAD_NAMESPACE rollout restart WORKLOAD`",
		Needs: []Source{sourceSidecar, sourceFiles},
		After: []string{"sidecar-clusters", "tls-files-valid"},
		run:   checkLoadedCertificates,
	},
	{
		ID: "sidecar-endpoints", Category: Proxy, Severity: Error,
		Title: "each cluster has a healthy endpoint",
		Why:   "Without an endpoint the sidecar resets each connection. Mostly DNS does not resolve the host.",
		Fix:   "Does the host resolve? `kubectl -n WORKLOAD_NAMESPACE logs POD -c istio-proxy`",
		Needs: []Source{sourceSidecar},
		After: []string{"sidecar-clusters"},
		run:   checkEnvoyHosts,
	},
	{
		ID: "sidecar-handshakes", Category: Proxy, Severity: Warning,
		Title: "connections of the sidecar to the server succeed",
		Why: "A failed handshake is mostly a wrong CA, a wrong name or a wrong port. " +
			"The counters are those since the sidecar started.",
		Fix:   "`redis-tls probe HOST:PORT` shows the certificate of the server.",
		Needs: []Source{sourceSidecar},
		After: []string{"sidecar-clusters", "sidecar-endpoints"},
		run:   checkHandshakes,
	},
}

// upstream is a cluster that a pod's sidecar must have.
type upstream struct {
	name string
	*origination.Origination
}

// upstreams returns the clusters of a pod with TLS, as istiod names them (BuildSubsetKey,
// pilot/pkg/model/push_context.go). With protocol http, istiod chooses the port, so these are left out.
func upstreams(p *Pod) (all []upstream) {
	for i := range p.Request.Originations {
		o := &p.Request.Originations[i]
		if o.HTTP() {
			continue
		}
		var hosts []string
		switch {
		case o.InMesh():
			hosts = []string{o.Host}
		default:
			for _, n := range o.Names() {
				hosts = append(hosts, o.PrivateHostOf(n.Host))
			}
			for _, a := range o.Atoms() {
				hosts = append(hosts, a.Host())
			}
		}
		for _, host := range hosts {
			for _, port := range o.PortNumbers() {
				if !slices.Contains(o.Passthrough, port) {
					all = append(all, upstream{fmt.Sprintf("outbound|%d||%s", port, host), o})
				}
			}
		}
	}
	return all
}

// eachProxy calls visit for the sidecars that were read, in the order of their pods.
func eachProxy(in *Input, visit func(p *Pod, envoy *Envoy)) {
	for i := range in.Workload.Running {
		p := &in.Workload.Running[i]
		if envoy := in.Workload.Proxies[p.Name]; envoy != nil {
			visit(p, envoy)
		}
	}
}

func (e *Envoy) cluster(name string) *EnvoyCluster {
	for i := range e.Clusters {
		if e.Clusters[i].Name == name {
			return &e.Clusters[i]
		}
	}
	return nil
}

func checkClusters(in *Input) Result {
	var found []string
	read := 0
	eachProxy(in, func(p *Pod, envoy *Envoy) {
		read++
		for _, u := range upstreams(p) {
			if envoy.cluster(u.name) == nil {
				found = append(found, fmt.Sprintf("%s: cluster %s: must exist", p.text(), u.name))
			}
		}
	})
	if len(found) > 0 {
		return failed("", found...)
	}
	return passed(fmt.Sprintf("%d of %s read", read, counted(len(in.Workload.Running), "pod")))
}

func checkTLSContexts(in *Input) Result {
	var found []string
	eachProxy(in, func(p *Pod, envoy *Envoy) {
		for _, u := range upstreams(p) {
			if u.InMesh() {
				continue // the mesh's own TLS
			}
			for _, rule := range contextProblems(envoy.cluster(u.name), &u.TLS, u.MountPath(), p.Namespace) {
				found = append(found, fmt.Sprintf("%s: cluster %s: %s", p.text(), u.name, rule))
			}
		}
	})
	return failed("", found...)
}

// contextProblems compares the TLS context of a cluster with the settings of the origination.
func contextProblems(c *EnvoyCluster, tls *origination.TLS, mount, namespace string) (rules []string) {
	if c.Transport == nil {
		return []string{"plaintext: must be TLS"}
	}
	if sni := c.Transport.Config.SNI; sni != tls.SNI {
		rules = append(rules, fmt.Sprintf("SNI %q: must be %q", sni, tls.SNI))
	}
	if names := c.subjectAltNames(); !slices.Equal(names, slices.Sorted(slices.Values(tls.SubjectAltNames))) {
		rules = append(rules, fmt.Sprintf("subject alternative names %q: must be %q", names, tls.SubjectAltNames))
	}
	want := tls.SystemRoots
	switch {
	case tls.SDS:
		want = strings.TrimPrefix(tls.Credential(namespace), "configmap://"+namespace+"/")
	case tls.OwnCA():
		want = mount + origination.MountedCA
	}
	if authority := c.authority(); !strings.Contains(authority, want) || want == "" && authority != "" {
		rules = append(rules, fmt.Sprintf("CA %q: must be %q", authority, want))
	}
	if tls.Mode == origination.ModeMutual && len(c.Transport.Config.Common.Certificates) == 0 {
		rules = append(rules, "client certificate: must be presented")
	}
	return rules
}

// checkLoadedCertificates compares the certificates of the files with those that the sidecar has, by serial number.
func checkLoadedCertificates(in *Input) Result {
	var found []string
	var end time.Time
	eachProxy(in, func(p *Pod, envoy *Envoy) {
		for _, f := range filesOf(p.Namespace, p.Request.Originations) {
			for key, c := range in.Workload.certificatesIn(f) {
				i := slices.IndexFunc(envoy.Certificates, func(e EnvoyCertificate) bool {
					return e.Serial == fmt.Sprintf("%x", c.SerialNumber.Bytes()) && e.Expires.Equal(c.NotAfter)
				})
				switch {
				case i < 0:
					found = append(found, fmt.Sprintf("%s: sidecar: must have loaded the certificate of %s, key %s, until %s",
						p.text(), f.String(), key, day(c.NotAfter)))
				case end.IsZero() || c.NotAfter.Before(end):
					end = c.NotAfter
				}
			}
		}
	})
	if len(found) > 0 || end.IsZero() {
		slices.Sort(found)
		return failed("", found...)
	}
	return passed("until " + day(end))
}

// certificatesIn returns the first certificate of each key of the file that the sidecar loads.
func (w *Workload) certificatesIn(f File) map[string]*x509.Certificate {
	first := map[string]*x509.Certificate{}
	for _, read := range w.Files {
		if read.String() != f.String() {
			continue
		}
		keys := f.CAs
		if f.Client {
			keys = append(slices.Clone(keys), corev1.TLSCertKey)
		}
		for _, key := range keys {
			if all := certificates(read.Data[key]); len(all) > 0 {
				first[key] = all[0]
			}
		}
	}
	return first
}

// checkEnvoyHosts leaves out clusters that connect to the address that the app dialled: they have no endpoints until
// then.
func checkEnvoyHosts(in *Input) Result {
	var found []string
	eachProxy(in, func(p *Pod, envoy *Envoy) {
		for _, u := range upstreams(p) {
			if strings.HasSuffix(u.name, origination.AtomSuffix) || u.Resolution() == origination.ResolutionNone {
				continue
			}
			hosts := envoy.Hosts[u.name]
			healthy := slices.ContainsFunc(hosts, func(h EnvoyHost) bool { return h.Healthy })
			switch {
			case len(hosts) == 0:
				found = append(found, fmt.Sprintf("%s: cluster %s: no endpoint: %s must resolve", p.text(), u.name, u.Host))
			case !healthy:
				found = append(found, fmt.Sprintf("%s: cluster %s: %d unhealthy endpoints: must have a healthy one",
					p.text(), u.name, len(hosts)))
			}
		}
	})
	return failed("", found...)
}

// checkHandshakes uses the counters of the endpoints, which Envoy always has, and those of TLS if Istio keeps them.
func checkHandshakes(in *Input) Result {
	var found []string
	var connects int64
	eachProxy(in, func(p *Pod, envoy *Envoy) {
		for _, u := range upstreams(p) {
			for _, h := range envoy.Hosts[u.name] {
				connects += h.Connects
				if h.Failures > 0 {
					found = append(found, fmt.Sprintf("%s: cluster %s: %s: %d of %d connections failed%s",
						p.text(), u.name, h.Address, h.Failures, h.Connects, envoy.tlsFailures(u.name)))
				}
			}
		}
	})
	if len(found) > 0 {
		return failed("", found...)
	}
	return passed(counted(int(connects), "connection"))
}

// handshakeStats are the counters of failed handshakes below cluster.NAME.ssl (Envoy, source/common/tls/stats.h).
var handshakeStats = map[string]string{
	"fail_verify_error":     "the CA does not verify the certificate",
	"fail_verify_san":       "the certificate has another name",
	"fail_verify_no_cert":   "no certificate",
	"fail_verify_cert_hash": "another certificate",
	"connection_error":      "no TLS, or the server refused",
}

// tlsFailures returns the reasons that Envoy has counted, in brackets, or "".
func (e *Envoy) tlsFailures(cluster string) string {
	var reasons []string
	for _, stat := range slices.Sorted(maps.Keys(handshakeStats)) {
		var n int64
		for name, value := range e.Stats {
			// Istio adds a semicolon to the name of the cluster.
			if strings.HasPrefix(name, "cluster."+cluster) && strings.HasSuffix(name, ".ssl."+stat) {
				n += value
			}
		}
		if n > 0 {
			reasons = append(reasons, fmt.Sprintf("%d times %s", n, handshakeStats[stat]))
		}
	}
	if len(reasons) == 0 {
		return ""
	}
	return " (" + strings.Join(reasons, ", ") + ")"
}
