package probe

import (
	"regexp"
	"strings"
)

// Provider is a service that runs Redis, recognised by the name of the host.
type Provider struct {
	Name string `json:"name"`
	// Guess reports that other services have such names too.
	Guess bool   `json:"guess,omitempty"`
	Facts []Fact `json:"facts"`
	// TLSName is the name of the same server that has TLS, if the host is one without. It is empty otherwise.
	TLSName string `json:"tlsName,omitempty"`
}

// Fact is what is known about a provider.
type Fact struct {
	Text string `json:"text"`
	// Guess reports that no documentation of the provider confirms it.
	Guess bool `json:"guess,omitempty"`
}

// providers is the table of services. The first row that matches decides.
var providers = []struct {
	name    string
	guess   bool
	host    *regexp.Regexp
	tlsName func(match []string) string // nil: the name may have TLS
	facts   []Fact
}{
	{
		name: "Amazon ElastiCache",
		host: regexp.MustCompile(`^([^.]+?)(-ro)?\.([^.]+)\.ng\.0001\.([^.]+)\.cache\.amazonaws\.com(\.cn)?$`),
		tlsName: func(m []string) string {
			role := map[string]string{"": "master", "-ro": "replica"}[m[2]]
			return role + "." + m[1] + "." + m[3] + "." + m[4] + ".cache.amazonaws.com" + m[5]
		},
		facts: []Fact{
			{Text: "The names change when in-transit encryption is enabled."},
			{Text: "A running cache can change to the mode preferred, which accepts both, and then to required."},
			{Text: "The name with TLS is derived from this one; compare it with the console.", Guess: true},
		},
	},
	{
		name: "Amazon ElastiCache",
		host: regexp.MustCompile(`^([^.]+)\.([^.]+)\.clustercfg\.([^.]+)\.cache\.amazonaws\.com(\.cn)?$`),
		tlsName: func(m []string) string {
			return "clustercfg." + m[1] + "." + m[2] + "." + m[3] + ".cache.amazonaws.com" + m[4]
		},
		facts: []Fact{
			{Text: "The names change when in-transit encryption is enabled."},
			{Text: "The name with TLS is derived from this one; compare it with the console.", Guess: true},
		},
	},
	{
		name: "Amazon ElastiCache Serverless",
		host: regexp.MustCompile(`\.serverless\.[^.]+\.cache\.amazonaws\.com(\.cn)?$`),
		facts: []Fact{
			{Text: "All connections use TLS: port 6379 for writes, and 6380 for reads."},
			{Text: "It is a cluster with its own endpoint as the only node.", Guess: true},
		},
	},
	{
		name: "Amazon ElastiCache",
		host: regexp.MustCompile(`\.cache\.amazonaws\.com(\.cn)?$`),
		facts: []Fact{
			{Text: "In the mode preferred, one port accepts plaintext and TLS."},
			{Text: "The CA is public: Amazon Trust Services.", Guess: true},
			{Text: "In cluster mode the nodes are announced by their names, such as NAME-0001-001."},
		},
	},
	{
		name: "Amazon MemoryDB",
		host: regexp.MustCompile(`\.memorydb\.[^.]+\.amazonaws\.com(\.cn)?$`),
		facts: []Fact{
			{Text: "It is a cluster. The nodes are announced by their names.", Guess: true},
			{Text: "The CA is public: Amazon Trust Services.", Guess: true},
		},
	},
	{
		name: "Azure Cache for Redis",
		host: regexp.MustCompile(`\.redis\.cache\.windows\.net$`),
		facts: []Fact{
			{Text: "TLS is on port 6380, and plaintext on 6379 if it is enabled."},
			{Text: "The service retires: Enterprise on 2027-03-31, Basic, Standard and Premium on 2028-09-30."},
			{Text: "A migration to Azure Managed Redis keeps the name, and moves TLS from port 6380 to 10000."},
			{Text: "A clustered Premium cache announces one IP with ports from 15000.", Guess: true},
		},
	},
	{
		name: "Azure Managed Redis",
		host: regexp.MustCompile(`\.redis\.azure\.net$`),
		facts: []Fact{
			{Text: "Port 10000 has TLS or plaintext, as it is set."},
			{Text: "With the OSS cluster policy the nodes are one IP with ports from 8500, which can change."},
		},
	},
	{
		name: "Redis Cloud",
		host: regexp.MustCompile(`\.redis-cloud\.com$|\.redislabs\.com$|\.cloud\.rlrcp\.com$`),
		facts: []Fact{
			{Text: "Each database has one port. TLS replaces plaintext there, and Free databases have none."},
			{Text: "The CA bundle redis_ca.pem has several certificates. The server may use any; use all of them."},
			{Text: "The cluster API announces IPs.", Guess: true},
		},
	},
	{
		name: "Aiven",
		host: regexp.MustCompile(`\.aivencloud\.com$`),
		facts: []Fact{
			{Text: "New services have a certificate of Let's Encrypt, older ones of the project's CA."},
			{Text: "Idle connections are closed after 300 seconds."},
		},
	},
	{
		name: "DigitalOcean",
		host: regexp.MustCompile(`\.db\.ondigitalocean\.com$`),
		facts: []Fact{
			{Text: "The certificate is one of Let's Encrypt."},
			{Text: "TLS is on port 25061.", Guess: true},
		},
	},
	{
		name: "Upstash",
		host: regexp.MustCompile(`\.upstash\.io$`),
		facts: []Fact{
			{Text: "TLS cannot be disabled."},
			{Text: "Older databases use port 30994.", Guess: true},
		},
	},
	{
		name: "Alibaba Cloud Tair",
		host: regexp.MustCompile(`\.(redis|kvstore)\.rds\.aliyuncs\.com$`),
		facts: []Fact{
			{Text: "TLS is disabled by default, and shares the port with plaintext."},
			{Text: "The certificate has the endpoint. After a change of the endpoint, the certificate must be updated."},
			{Text: "Download the CA chain from the console."},
		},
	},
	{
		name: "OCI Cache",
		host: regexp.MustCompile(`\.redis\.[^.]+\.oci\.oraclecloud\.com$`),
		facts: []Fact{
			{Text: "The nodes are announced by their names."},
			{Text: "The CA is public.", Guess: true},
		},
	},
	{
		name: "IBM Cloud Databases for Redis",
		host: regexp.MustCompile(`\.databases\.appdomain\.cloud$`),
		facts: []Fact{
			{Text: "The CA is private. The connection string of the console has it.", Guess: true},
		},
	},
	{
		name:  "Heroku Key-Value Store",
		guess: true,
		host:  regexp.MustCompile(`^ec2-[0-9-]+\.([^.]+\.)?compute(-1)?\.amazonaws\.com$`),
		facts: []Fact{
			{Text: "The certificate is self-signed and has another name. The host and the password change."},
		},
	},
}

// providerOf returns the provider of a host, nil if it is not known.
func providerOf(host string) *Provider {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, row := range providers {
		match := row.host.FindStringSubmatch(host)
		if match == nil {
			continue
		}
		p := &Provider{Name: row.name, Guess: row.guess, Facts: row.facts}
		if row.tlsName != nil {
			p.TLSName = row.tlsName(match)
		}
		return p
	}
	return nil
}

// byPort returns the provider that one of the ports and the issuer suggest for an IP, nil if none does.
func byPort(e *Endpoint) *Provider {
	if e == nil || e.Address.Port() != 6378 || len(e.TLS.Chain) == 0 {
		return nil
	}
	return &Provider{Name: "Google Memorystore for Redis", Guess: true, Facts: []Fact{
		{Text: "Each instance has its own CA, valid for ten years. After five years a second one appears; use both."},
		{Text: "The server's certificate is replaced every 180 days. Connections then end for some seconds."},
	}}
}
