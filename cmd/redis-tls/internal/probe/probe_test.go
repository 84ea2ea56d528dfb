package probe

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/term"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/test/catalog"
)

const cart = "cart.example.com"

// resp writes an array or a string in RESP.
func resp(value any) string {
	switch v := value.(type) {
	case []any:
		text := fmt.Sprintf("*%d\r\n", len(v))
		for _, element := range v {
			text += resp(element)
		}
		return text
	case int:
		return fmt.Sprintf(":%d\r\n", v)
	default:
		return fmt.Sprintf("$%d\r\n%s\r\n", len(fmt.Sprint(v)), v)
	}
}

// info is the reply to INFO.
func info(mode string) string {
	return resp("# Server\r\nredis_version:7.2.4\r\nredis_mode:" + mode + "\r\n")
}

// shard is a shard of CLUSTER SHARDS with one node.
func shard(endpoint, ip string, port int) any {
	return []any{
		"slots", []any{0, 16383},
		"nodes", []any{[]any{
			"id", "1", "tls-port", port, "ip", ip, "endpoint", endpoint, "role", "master", "replication-offset", 0, "health",
			"online",
		}},
	}
}

func clusterReplies(shards ...any) map[string]string {
	return map[string]string{
		"INFO SERVER":    info("cluster"),
		"ROLE":           resp([]any{"master", 0, []any{}}),
		"CLUSTER SHARDS": resp(shards),
	}
}

// sentinelReplies are those of a Sentinel that watches one master with one replica.
func sentinelReplies(master, replica string) map[string]string {
	return map[string]string{
		"INFO SERVER":             info("sentinel"),
		"ROLE":                    resp([]any{"sentinel", []any{"cart"}}),
		"SENTINEL MASTERS":        resp([]any{[]any{"name", "cart", "ip", master, "port", "6379"}}),
		"SENTINEL REPLICAS CART":  resp([]any{[]any{"name", "r", "ip", replica, "port", "6379"}}),
		"SENTINEL SENTINELS CART": resp([]any{}),
	}
}

// probeCase is a target in a network. Its golden is what the user reads.
type probeCase struct {
	name   string
	target Target
	peers  map[string]peer
	// public reports that the system's roots have the CA.
	public bool
	// findings is their number, and want the annotations.
	findings int
	want     map[string]string
}

// authorities are the CAs of the cases.
type authorities struct{ ca, other, intermediate *authority }

func newAuthorities(t *testing.T) authorities {
	a := authorities{ca: newAuthority(t, "Private", nil), other: newAuthority(t, "Other", nil)}
	a.intermediate = newAuthority(t, "Intermediate", a.ca)
	return a
}

// hosts is what DNS has.
var hosts = map[string][]string{
	cart:                           {"10.0.0.3"},
	"pair.example.com":             {"10.0.0.3", "10.0.0.4"},
	"localhost":                    {"10.0.0.3"},
	"cart.redis.cache.windows.net": {"10.0.0.3"},
	"cart.abc.ng.0001.euw1.cache.amazonaws.com":    {"10.0.0.3"},
	"cart-ro.abc.ng.0001.euw1.cache.amazonaws.com": {"10.0.0.3"},
	"clustercfg.cart.abc.euw1.cache.amazonaws.com": {"10.0.0.3"},
	"ec2-3-8-1-2.compute-1.amazonaws.com":          {"10.0.0.3"},
}

func (c probeCase) run(t *testing.T, a authorities) (*Report, *network) {
	t.Helper()
	n := newNetwork(t, c.peers)
	system := a.ca
	if !c.public {
		system = nil
	}
	r, err := n.prober(system, hosts).Probe(t.Context(), c.target)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Suggest(Options{
		CA: c.target.CA, CAFile: "ca.crt", Namespace: "shop", Config: config.Default(), Now: today,
	}); err != nil {
		t.Fatal(err)
	}
	return r, n
}

func (c probeCase) check(t *testing.T, a authorities, r *Report) {
	t.Helper()
	if len(r.Findings) != c.findings {
		t.Errorf("%d findings, want %d: %q", len(r.Findings), c.findings, r.Findings)
	}
	got := map[string]string{}
	for key, value := range r.Annotations {
		got[strings.TrimPrefix(key, "redis-tls/")] = value
	}
	if fmt.Sprint(got) != fmt.Sprint(c.want) {
		t.Errorf("annotations %v, want %v", got, c.want)
	}
	if r.ConfigMap == nil {
		return
	}
	bundle := cmp.Or(string(c.target.CA), string(a.ca.pem()))
	if r.ConfigMap.Bundle != bundle || r.ConfigMap.Name != got["ca-configmap"] {
		t.Errorf("the ConfigMap %s has another CA: %s", r.ConfigMap.Name, r.ConfigMap.Bundle)
	}
}

// texts returns what the user reads, without the lines of a PEM block.
func texts(t *testing.T, r *Report) string {
	t.Helper()
	var out bytes.Buffer
	if err := Text(&out, r, term.Painter{}, today); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	from := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "BEGIN CERTIFICATE") })
	if from >= 0 {
		lines = append(lines[:from], "    (certificates)")
	}
	return strings.Join(lines, "\n")
}

// TestProbe probes Go servers in a network of the test.
func TestProbe(t *testing.T) {
	a := newAuthorities(t)
	messages := catalog.Open(t)
	for _, c := range slices.Concat(plainCases(t, a), certificateCases(t, a), clientCases(t, a), nodeCases(t, a)) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, _ := c.run(t, a)
			c.check(t, a, r)
			messages.Add(c.name, texts(t, r))
		})
	}
}

// plainCases are those of ports and names.
func plainCases(t *testing.T, a authorities) []probeCase {
	public := a.ca.leaf(t, []string{cart}, nil)
	http := "HTTP/1.1 400 Bad Request\r\n\r\n"
	return []probeCase{
		{
			name:   "a public CA",
			target: Target{Host: cart, Port: 6379},
			peers:  map[string]peer{"10.0.0.3:6379": {certificate: public, replies: clusterlessReplies()}},
			public: true,
			want:   map[string]string{"host": cart, "port": "6379"},
		},
		{
			name:   "the app dials a plain port, and TLS is on another one",
			target: Target{Host: "cart.redis.cache.windows.net", Port: 6379},
			peers: map[string]peer{
				"10.0.0.3:6379": {},
				"10.0.0.3:6380": {certificate: a.ca.leaf(t, []string{"*.redis.cache.windows.net"}, nil)},
			},
			public: true,
			want:   map[string]string{"host": "cart.redis.cache.windows.net", "port": "6379", "target-port": "6380"},
		},
		{
			name:   "no port is given, and only another one has TLS",
			target: Target{Host: cart},
			peers:  map[string]peer{"10.0.0.3:25061": {certificate: public}},
			public: true,
			want:   map[string]string{"host": cart, "port": "25061"},
		},
		{
			name:     "plaintext only",
			target:   Target{Host: cart, Port: 6379},
			peers:    map[string]peer{"10.0.0.3:6379": {}},
			findings: 1,
		},
		{
			name:     "a name of ElastiCache without TLS",
			target:   Target{Host: "cart.abc.ng.0001.euw1.cache.amazonaws.com", Port: 6379},
			peers:    map[string]peer{"10.0.0.3:6379": {password: "x"}},
			findings: 1,
		},
		{
			name:     "a name of ElastiCache for replicas without TLS",
			target:   Target{Host: "cart-ro.abc.ng.0001.euw1.cache.amazonaws.com"},
			peers:    map[string]peer{"10.0.0.3:6379": {}},
			findings: 1,
		},
		{
			name:   "plaintext and TLS on one port",
			target: Target{Host: cart, Port: 6379},
			peers:  map[string]peer{"10.0.0.3:6379": {certificate: public, sniffs: true}},
			public: true,
			want:   map[string]string{"host": cart, "port": "6379"},
		},
		{
			name:     "a port of HTTP",
			target:   Target{Host: cart, Port: 8080},
			peers:    map[string]peer{"10.0.0.3:8080": {banner: http}},
			findings: 2,
		},
		{
			name:     "a port of HTTPS",
			target:   Target{Host: cart, Port: 443},
			peers:    map[string]peer{"10.0.0.3:443": {certificate: public, banner: http}},
			public:   true,
			findings: 1,
		},
		{
			name:     "a server with TLS 1.1 only",
			target:   Target{Host: cart, Port: 6379},
			peers:    map[string]peer{"10.0.0.3:6379": {certificate: public, newest: tls.VersionTLS11}},
			findings: 1,
		},
		{
			name:   "one of two addresses has no TLS",
			target: Target{Host: "pair.example.com", Port: 6379},
			peers: map[string]peer{
				"10.0.0.3:6379": {certificate: a.ca.leaf(t, []string{"pair.example.com"}, nil)}, "10.0.0.4:6379": {},
			},
			public:   true,
			findings: 1,
			want:     map[string]string{"host": "pair.example.com", "port": "6379"},
		},
		{
			name:     "a host that the webhook refuses",
			target:   Target{Host: "localhost", Port: 6379},
			peers:    map[string]peer{"10.0.0.3:6379": {certificate: a.ca.leaf(t, []string{"localhost"}, nil)}},
			public:   true,
			findings: 1,
		},
		{
			name:     "no server",
			target:   Target{Host: cart, Port: 6379},
			findings: 1,
		},
	}
}

func clusterlessReplies() map[string]string {
	return map[string]string{"INFO SERVER": info("standalone"), "ROLE": resp([]any{"master", 0, []any{}})}
}

// certificateCases are those of chains and names.
func certificateCases(t *testing.T, a authorities) []probeCase {
	one := func(certificate *tls.Certificate) map[string]peer {
		return map[string]peer{"10.0.0.3:6379": {certificate: certificate}}
	}
	private := map[string]string{"ca-configmap": "cart-ca", "host": cart, "port": "6379"}
	target := Target{Host: cart, Port: 6379}
	with := func(ca ...[]byte) Target { return Target{Host: cart, Port: 6379, CA: bytes.Join(ca, nil)} }
	return []probeCase{
		{
			name:   "a private CA that the server sends",
			target: target,
			peers:  one(a.intermediate.leaf(t, []string{cart}, []*authority{a.intermediate, a.ca})),
			want:   private,
		},
		{
			name:     "a private CA that the server does not send",
			target:   target,
			peers:    one(a.intermediate.leaf(t, []string{cart}, []*authority{a.intermediate})),
			findings: 1,
			want:     private,
		},
		{
			name:   "the last CA of a given bundle",
			target: with(a.other.pem(), a.ca.pem()),
			peers:  one(a.ca.leaf(t, []string{cart}, nil)),
			want:   private,
		},
		{
			name:     "a given CA that did not sign",
			target:   with(a.other.pem()),
			peers:    one(a.ca.leaf(t, []string{cart}, nil)),
			public:   true,
			findings: 1,
			want:     private,
		},
		{
			name:   "another name",
			target: target,
			peers:  one(a.ca.leaf(t, []string{"redis.internal", "cache.example.com"}, nil)),
			public: true,
			want:   map[string]string{"host": cart, "port": "6379", "subject-alt-names": "cache.example.com"},
		},
		{
			name:   "another name that is given as the server name",
			target: Target{Host: cart, Port: 6379, SNI: "redis.internal"},
			peers:  one(a.ca.leaf(t, []string{"redis.internal"}, nil)),
			public: true,
			want: map[string]string{
				"host": cart, "port": "6379", "sni": "redis.internal", "subject-alt-names": "redis.internal",
			},
		},
		{
			name:     "no name",
			target:   target,
			peers:    one(a.ca.leaf(t, nil, nil)),
			public:   true,
			findings: 1,
		},
		{
			name:   "an IP that the certificate has",
			target: Target{Host: "10.0.0.3", Port: 6379, CA: a.ca.pem()},
			peers:  one(a.ca.leaf(t, []string{"10.0.0.3"}, nil)),
			want: map[string]string{
				"addresses": "10.0.0.3", "ca-configmap": "redis-10-0-0-3-ca", "port": "6379", "subject-alt-names": "10.0.0.3",
			},
		},
		{
			name:   "an IP that the certificate does not have",
			target: Target{Host: "10.0.0.3"},
			peers: map[string]peer{
				"10.0.0.3:6378": {certificate: a.ca.leaf(t, []string{"redis.google.internal"}, []*authority{a.ca})},
			},
			want: map[string]string{
				"addresses": "10.0.0.3", "ca-configmap": "redis-10-0-0-3-ca", "port": "6378",
				"subject-alt-names": "redis.google.internal",
			},
		},
		{
			name:   "expired",
			target: target,
			peers: one(a.ca.leaf(t, []string{cart}, nil, func(c *x509.Certificate) {
				c.NotAfter = today.AddDate(0, 0, -1)
			})),
			public:   true,
			findings: 1,
			want:     map[string]string{"host": cart, "port": "6379"},
		},
		{
			name:   "expires soon",
			target: target,
			peers: one(a.ca.leaf(t, []string{cart}, nil, func(c *x509.Certificate) {
				c.NotAfter = today.AddDate(0, 0, 3)
			})),
			public: true,
			want:   map[string]string{"host": cart, "port": "6379"},
		},
		{
			name:   "a certificate for clients only",
			target: target,
			peers: one(a.ca.leaf(t, []string{cart}, nil, func(c *x509.Certificate) {
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
			})),
			public:   true,
			findings: 1,
			want:     map[string]string{"host": cart, "port": "6379"},
		},
	}
}

// TestNoProposalWithoutANameCheck: whatever the facts are, annotations without a name to check are not printed.
func TestNoProposalWithoutANameCheck(t *testing.T) {
	for name, annotations := range map[string]map[string]string{
		"an address with a private CA": {"redis-tls/addresses": "10.0.0.3", "redis-tls/ca-configmap": "ca"},
		"no verification at all":       {"redis-tls/host": cart, "redis-tls/insecure-skip-verify": "true"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config.Default()
			cfg.Policy.AllowInsecure = true
			p := &proposal{Report: &Report{Host: cart}, o: Options{Namespace: "shop", Config: cfg}}
			p.check(annotations)
			if len(p.Annotations) > 0 || len(p.Findings) != 1 || !strings.Contains(p.Findings[0], "check the server's name") {
				t.Errorf("proposed %v, findings %q", p.Annotations, p.Findings)
			}
		})
	}
}

// TestPrivateKeysOfACAFileAreDropped: a file with a CA and its key is printed without the key.
func TestPrivateKeysOfACAFileAreDropped(t *testing.T) {
	ca := newAuthority(t, "Private", nil).pem()
	key := []byte("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
	b, err := ParseCA(slices.Concat(key, ca, key))
	if err != nil || !bytes.Equal(b.pem, ca) {
		t.Errorf("%v: %s", err, b.pem)
	}
	if _, err := ParseCA(key); err == nil {
		t.Error("a file with a key only was accepted")
	}
}
