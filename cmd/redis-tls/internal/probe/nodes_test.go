package probe

import (
	"crypto/tls"
	"strings"
	"testing"
)

// clientCases are those of client certificates and credentials.
func clientCases(t *testing.T, a authorities) []probeCase {
	server := func(p peer) map[string]peer {
		p.certificate = a.ca.leaf(t, []string{cart}, nil)
		return map[string]peer{"10.0.0.3:6379": p}
	}
	simple := map[string]string{"host": cart, "port": "6379"}
	mutual := map[string]string{
		"ca-configmap": "cart-ca", "client-secret": "cart-client", "host": cart, "mode": "mutual", "port": "6379",
	}
	certificate := a.ca.leaf(t, []string{"app"}, nil)
	return []probeCase{
		{
			name:   "a client certificate is required",
			target: Target{Host: cart, Port: 6379},
			peers:  server(peer{clients: tls.RequireAndVerifyClientCert, clientCA: a.ca}),
			public: true,
			want:   mutual,
		},
		{
			name:   "a client certificate is required, with TLS 1.2",
			target: Target{Host: cart, Port: 6379},
			peers:  server(peer{clients: tls.RequireAndVerifyClientCert, clientCA: a.ca, newest: tls.VersionTLS12}),
			public: true,
			want:   mutual,
		},
		{
			name:   "a client certificate is required and given",
			target: Target{Host: cart, Port: 6379, Certificate: certificate},
			peers:  server(peer{clients: tls.RequireAndVerifyClientCert, clientCA: a.ca, replies: clusterlessReplies()}),
			public: true,
			want:   mutual,
		},
		{
			name:     "a client certificate of another CA is given",
			target:   Target{Host: cart, Port: 6379, Certificate: a.other.leaf(t, []string{"app"}, nil)},
			peers:    server(peer{clients: tls.RequireAndVerifyClientCert, clientCA: a.ca}),
			public:   true,
			findings: 1,
			want:     mutual,
		},
		{
			name:   "a client certificate is accepted and not required",
			target: Target{Host: cart, Port: 6379},
			peers:  server(peer{clients: tls.VerifyClientCertIfGiven, clientCA: a.ca}),
			public: true,
			want:   simple,
		},
		{
			name:   "a password is required",
			target: Target{Host: cart, Port: 6379},
			peers:  server(peer{password: "secret"}),
			public: true,
			want:   simple,
		},
		{
			name:   "a password is given",
			target: Target{Host: cart, Port: 6379, User: "app", Password: "secret"},
			peers:  server(peer{password: "secret", replies: clusterlessReplies()}),
			public: true,
			want:   simple,
		},
		{
			name:     "a wrong password is given",
			target:   Target{Host: cart, Port: 6379, Password: "wrong"},
			peers:    server(peer{password: "secret"}),
			public:   true,
			findings: 1,
			want:     simple,
		},
	}
}

// nodeCases are those of clusters and Sentinels.
func nodeCases(t *testing.T, a authorities) []probeCase {
	const domain = "cart.abc.euw1.cache.amazonaws.com"
	const endpoint = "clustercfg." + domain
	named := a.ca.leaf(t, []string{"*." + domain}, nil)
	server := func(certificate *tls.Certificate, port string, replies map[string]string) map[string]peer {
		return map[string]peer{"10.0.0.3:" + port: {certificate: certificate, replies: replies}}
	}
	return []probeCase{
		{
			name:   "a cluster that announces names",
			target: Target{Host: endpoint, Port: 6379},
			peers: server(named, "6379", clusterReplies(
				shard("cart-0001-001."+domain, "10.0.0.4", 6379), shard("cart-0002-001."+domain, "10.0.0.5", 6379),
				shard("cart-0003-001."+domain, "10.0.0.6", 6379),
			)),
			public: true,
			want: map[string]string{
				"host": endpoint, "nodes": "cart-{0001..0003}-001." + domain, "port": "6379",
			},
		},
		{
			name:   "a cluster that does not know CLUSTER SHARDS",
			target: Target{Host: endpoint, Port: 6379},
			peers: server(named, "6379", map[string]string{
				"INFO SERVER": info("cluster"),
				"CLUSTER SLOTS": resp([]any{[]any{
					0, 16383, []any{"cart-0001-001." + domain, 6379, "1"}, []any{"cart-0001-002." + domain, 6379, "2"},
				}}),
			}),
			public: true,
			want:   map[string]string{"host": endpoint, "nodes": "cart-0001-{001..002}." + domain, "port": "6379"},
		},
		{
			name:   "a configuration endpoint of ElastiCache without credentials",
			target: Target{Host: endpoint, Port: 6379},
			peers:  map[string]peer{"10.0.0.3:6379": {certificate: named, password: "secret"}},
			public: true,
			want:   map[string]string{"host": endpoint, "port": "6379"},
		},
		{
			name:   "a cluster that announces IPs",
			target: Target{Host: cart, Port: 6379, CA: a.ca.pem()},
			peers: server(a.ca.leaf(t, []string{cart}, nil), "6379", clusterReplies(
				shard("10.0.0.4", "10.0.0.4", 6379), shard("10.0.0.5", "10.0.0.5", 6379),
			)),
			want: map[string]string{
				"addresses": "10.0.0.3,10.0.0.4,10.0.0.5", "ca-configmap": "cart-ca", "port": "6379", "sni": cart,
				"subject-alt-names": cart,
			},
		},
		{
			name:   "a cluster with one IP and many ports",
			target: Target{Host: cart, Port: 10000},
			peers: server(a.ca.leaf(t, []string{cart}, nil), "10000", clusterReplies(
				shard("10.0.0.3", "10.0.0.3", 8500), shard("10.0.0.3", "10.0.0.3", 8501),
			)),
			public: true,
			want: map[string]string{
				"addresses": "10.0.0.3", "host": cart, "port": "8500-8501,10000", "sni": cart, "subject-alt-names": cart,
			},
		},
		{
			name:   "a cluster that announces names and IPs",
			target: Target{Host: cart, Port: 6379},
			peers: server(a.ca.leaf(t, []string{cart}, nil), "6379", clusterReplies(
				shard("redis-0.example.com", "10.0.0.4", 6379), shard("10.0.0.5", "10.0.0.5", 6379),
			)),
			public: true,
			want: map[string]string{
				"addresses": "10.0.0.3,10.0.0.5", "port": "6379", "sni": cart, "subject-alt-names": cart,
			},
		},
		{
			name:   "a Sentinel that answers with names",
			target: Target{Host: cart, Port: 26379},
			peers: server(a.ca.leaf(t, []string{cart}, nil), "26379",
				sentinelReplies("redis-0.example.com", "redis-1.example.com")),
			public: true,
			want: map[string]string{
				"host": cart, "nodes": "redis-{0..1}.example.com", "port": "6379,26379",
			},
		},
		{
			name:   "a Sentinel that answers with IPs",
			target: Target{Host: "10.0.0.3", Port: 26379, CA: a.ca.pem()},
			peers: server(a.ca.leaf(t, []string{cart}, nil), "26379",
				sentinelReplies("10.0.0.4", "10.0.0.5")),
			want: map[string]string{
				"addresses": "10.0.0.3,10.0.0.4,10.0.0.5", "ca-configmap": "redis-10-0-0-3-ca", "port": "6379,26379",
				"subject-alt-names": cart,
			},
		},
	}
}

// TestCredentialsAreSentToAVerifiedServerOnly: a password is sent neither in plaintext, nor to a server whose chain or
// name is wrong.
func TestCredentialsAreSentToAVerifiedServerOnly(t *testing.T) {
	a := newAuthorities(t)
	const password = "correct-horse"
	for _, c := range []struct {
		name   string
		public bool
		names  []string
		sent   bool
	}{
		{name: "verified", public: true, names: []string{cart}, sent: true},
		{name: "of a private CA that is not given", names: []string{cart}},
		{name: "with another name", public: true, names: []string{"other.example.com"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tested := probeCase{
				target: Target{Host: cart, Port: 6379, User: "app", Password: password},
				public: c.public,
				peers: map[string]peer{
					"10.0.0.3:6379": {
						certificate: a.ca.leaf(t, c.names, []*authority{a.ca}), sniffs: true, password: password,
						replies: clusterlessReplies(),
					},
					"10.0.0.3:6380": {password: password},
				},
			}
			r, n := tested.run(t, a)
			if plain := n.sentPlain(); strings.Contains(plain, password) || !strings.Contains(plain, "PING") {
				t.Errorf("in plaintext: %q", plain)
			}
			if got := strings.Contains(n.sentSecure(), password); got != c.sent {
				t.Errorf("sent in TLS: %t, want %t", got, c.sent)
			}
			if shown := texts(t, r); strings.Contains(shown, password) {
				t.Errorf("printed: %s", shown)
			}
			if refused := strings.Contains(strings.Join(r.Undecided, " "), "password was not sent"); refused == c.sent {
				t.Errorf("reported as not sent: %t: %q", refused, r.Undecided)
			}
		})
	}
}

// TestNoNodeIsDialled: the probe connects only where it is sent to, whatever the server announces.
func TestNoNodeIsDialled(t *testing.T) {
	a := newAuthorities(t)
	for _, c := range nodeCases(t, a) {
		_, n := c.run(t, a)
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.dialled) == 0 {
			t.Errorf("%s: nothing was dialled", c.name)
		}
		for _, address := range n.dialled {
			if !strings.HasPrefix(address, "10.0.0.3:") {
				t.Errorf("%s: dialled %s", c.name, address)
			}
		}
	}
}
