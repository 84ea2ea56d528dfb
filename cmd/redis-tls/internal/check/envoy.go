package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Envoy is what a sidecar has, from the admin interface of its Envoy.
type Envoy struct {
	Clusters     []EnvoyCluster
	Hosts        map[string][]EnvoyHost // of each cluster
	Certificates []EnvoyCertificate
	// Stats are counters by name. Istio leaves most of them out by default (proxyStatsMatcher).
	Stats map[string]int64
}

// EnvoyCluster is a cluster of Envoy, as far as the checks read it (envoy.config.cluster.v3.Cluster).
type EnvoyCluster struct {
	Name      string `json:"name"`
	Transport *struct {
		Config struct {
			SNI    string `json:"sni"`
			Common struct {
				Validation         *envoyValidation `json:"validation_context"`
				CombinedValidation *struct {
					Default *envoyValidation `json:"default_validation_context"`
					Secret  *struct {
						Name string `json:"name"`
					} `json:"validation_context_sds_secret_config"`
				} `json:"combined_validation_context"`
				Certificates []struct {
					Name string `json:"name"`
				} `json:"tls_certificate_sds_secret_configs"`
			} `json:"common_tls_context"`
		} `json:"typed_config"`
	} `json:"transport_socket"`
}

// envoyValidation is how Envoy verifies the server (CertificateValidationContext).
type envoyValidation struct {
	CA *struct {
		File string `json:"filename"`
	} `json:"trusted_ca"`
	Names []struct {
		Exact string `json:"exact"`
	} `json:"match_subject_alt_names"`
	TypedNames []struct {
		Matcher struct {
			Exact string `json:"exact"`
		} `json:"matcher"`
	} `json:"match_typed_subject_alt_names"`
}

// validations returns how the server is verified: by the cluster itself, and by a secret.
func (c *EnvoyCluster) validations() (all []*envoyValidation) {
	common := &c.Transport.Config.Common
	if common.Validation != nil {
		all = append(all, common.Validation)
	}
	if common.CombinedValidation != nil && common.CombinedValidation.Default != nil {
		all = append(all, common.CombinedValidation.Default)
	}
	return all
}

// subjectAltNames returns the names of which the server's certificate must have one, sorted.
func (c *EnvoyCluster) subjectAltNames() (names []string) {
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, v := range c.validations() {
		for _, n := range v.Names {
			add(n.Exact)
		}
		for _, n := range v.TypedNames {
			add(n.Matcher.Exact)
		}
	}
	slices.Sort(names)
	return names
}

// authority returns the file or the secret of the CA bundle; empty if nothing is verified.
func (c *EnvoyCluster) authority() string {
	if combined := c.Transport.Config.Common.CombinedValidation; combined != nil && combined.Secret != nil {
		return combined.Secret.Name
	}
	for _, v := range c.validations() {
		if v.CA != nil {
			return v.CA.File
		}
	}
	return ""
}

// EnvoyHost is an endpoint of a cluster, with its counters of connections.
type EnvoyHost struct {
	Address  string
	Healthy  bool
	Connects int64 // attempts
	Failures int64 // attempts that failed, in TCP or in the handshake
}

// EnvoyCertificate is a certificate that Envoy has loaded. Of a CA bundle, Envoy names the first one only
// (DefaultCertValidator::getCaCertInformation).
type EnvoyCertificate struct {
	Serial  string    `json:"serial_number"` // in lower-case hexadecimal digits
	Expires time.Time `json:"expiration_time"`
}

// dumps are the answers of the admin interface that the checks read.
var dumps = []struct {
	// file is the name of the answer in a directory of --sidecar-files, and path the request.
	file, path string
	parse      func(*Envoy, []byte) error
}{
	{"config_dump.json", "config_dump?resource=dynamic_active_clusters&name_regex=outbound.*", (*Envoy).parseClusters},
	{"clusters.json", "clusters?format=json", (*Envoy).parseHosts},
	{"certs.json", "certs", (*Envoy).parseCertificates},
	{"stats.json", "stats?format=json&filter=^cluster\\.outbound.*\\.ssl\\.", (*Envoy).parseStats},
}

// parseEnvoy parses the answers, by their files.
func parseEnvoy(answers map[string][]byte) (*Envoy, error) {
	e := &Envoy{Hosts: map[string][]EnvoyHost{}, Stats: map[string]int64{}}
	for _, d := range dumps {
		text := answers[d.file]
		if i := bytes.Index(text, []byte("\n{")); i >= 0 && text[0] != '{' { // after lines that pilot-agent logs
			text = text[i:]
		}
		if err := d.parse(e, text); err != nil {
			return nil, fmt.Errorf("the answer of Envoy to /%s: %w", d.path, err)
		}
	}
	return e, nil
}

func (e *Envoy) parseClusters(text []byte) error {
	var dump struct {
		Configs []struct {
			Cluster EnvoyCluster `json:"cluster"`
		} `json:"configs"`
	}
	if err := json.Unmarshal(text, &dump); err != nil {
		return err
	}
	for _, c := range dump.Configs {
		e.Clusters = append(e.Clusters, c.Cluster)
	}
	return nil
}

func (e *Envoy) parseHosts(text []byte) error {
	type counter struct {
		Name  string      `json:"name"`
		Value json.Number `json:"value"`
	}
	var dump struct {
		Clusters []struct {
			Name  string `json:"name"`
			Hosts []struct {
				Address struct {
					Socket struct {
						Address string `json:"address"`
						Port    int    `json:"port_value"`
					} `json:"socket_address"`
				} `json:"address"`
				Stats  []counter      `json:"stats"`
				Health map[string]any `json:"health_status"`
			} `json:"host_statuses"`
		} `json:"cluster_statuses"`
	}
	if err := json.Unmarshal(text, &dump); err != nil {
		return err
	}
	for _, c := range dump.Clusters {
		e.Hosts[c.Name] = nil
		for _, h := range c.Hosts {
			host := EnvoyHost{
				Address: fmt.Sprintf("%s:%d", h.Address.Socket.Address, h.Address.Socket.Port),
				Healthy: h.Health["eds_health_status"] == "HEALTHY" && len(h.Health) == 1,
			}
			for _, s := range h.Stats {
				value, _ := s.Value.Int64() // absent is 0
				switch s.Name {
				case "cx_total":
					host.Connects = value
				case "cx_connect_fail":
					host.Failures = value
				}
			}
			e.Hosts[c.Name] = append(e.Hosts[c.Name], host)
		}
	}
	return nil
}

func (e *Envoy) parseCertificates(text []byte) error {
	var dump struct {
		Certificates []struct {
			CA    []EnvoyCertificate `json:"ca_cert"`
			Chain []EnvoyCertificate `json:"cert_chain"`
		} `json:"certificates"`
	}
	if err := json.Unmarshal(text, &dump); err != nil {
		return err
	}
	for _, c := range dump.Certificates {
		e.Certificates = slices.Concat(e.Certificates, c.CA, c.Chain)
	}
	return nil
}

func (e *Envoy) parseStats(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	var dump struct {
		Stats []struct {
			Name  string          `json:"name"`
			Value json.RawMessage `json:"value"`
		} `json:"stats"`
	}
	if err := json.Unmarshal(text, &dump); err != nil {
		return err
	}
	for _, s := range dump.Stats {
		var value int64
		if strings.HasPrefix(s.Name, "cluster.outbound|") && json.Unmarshal(s.Value, &value) == nil {
			e.Stats[s.Name] = value
		}
	}
	return nil
}
