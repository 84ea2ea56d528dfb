package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// errUnverified says that the server was not verified, so it gets no credentials.
var errUnverified = errors.New("credentials are sent only to a server whose certificate is verified")

// server reads what the Redis says about itself: INFO, ROLE, and the nodes that clients are sent to. It is nil if the
// server does not answer in TLS.
func (p *Prober) server(ctx context.Context, t Target, e *Endpoint) *Server {
	switch {
	case e.TLS.Reply == "":
		return nil
	case t.Password == "" && e.TLS.Reply != "+PONG":
		return &Server{Problem: strings.TrimPrefix(e.TLS.Reply, "-")}
	}
	c := p.client(t, e.Address)
	defer c.Close()
	s := &Server{}
	info, err := c.InfoMap(ctx, "server").Result()
	if err != nil {
		s.Problem = p.reason(err)
		if refusesAll(err) {
			return s
		}
	}
	facts := info["Server"]
	s.Product, s.Version = cmp.Or(facts["server_name"], "redis"), cmp.Or(facts["valkey_version"], facts["redis_version"])
	if s.Version == "" {
		s.Product = ""
	}
	s.Mode = cmp.Or(facts["server_mode"], facts["redis_mode"])
	if role, err := c.Do(ctx, "ROLE").Slice(); err == nil && len(role) > 0 {
		s.Role = fmt.Sprint(role[0])
	}
	switch {
	case s.Role == "sentinel":
		s.Mode = "sentinel"
		s.Nodes, err = watched(ctx, p.sentinel(t, e.Address))
	case s.Mode != "standalone":
		s.Nodes, err = clusterNodes(ctx, c)
	}
	if err != nil {
		s.Problem = p.reason(err)
	}
	return s
}

// refusesAll reports whether further commands would fail in the same way: there is no verified connection, or the
// credentials are wrong.
func refusesAll(err error) bool {
	var verification *tls.CertificateVerificationError
	return errors.Is(err, errUnverified) || errors.As(err, &verification) ||
		strings.HasPrefix(err.Error(), "WRONGPASS") || strings.HasPrefix(err.Error(), "NOAUTH")
}

// options are those of a client with TLS. With credentials, the connection itself verifies chain and name. There is no
// way to plaintext: the dialer always returns a TLS connection.
func (p *Prober) options(t Target, address netip.AddrPort) *redis.Options {
	return &redis.Options{
		Addr: address.String(), Username: t.User, Password: t.Password,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) { return p.verified(ctx, t, address) },
		// The commands are only those that the probe needs.
		Protocol: 2, DisableIdentity: true, MaxRetries: -1, PoolSize: 1, ContextTimeoutEnabled: true,
		DialTimeout: p.timeout(), ReadTimeout: p.timeout(), WriteTimeout: p.timeout(),
		DialerRetries:            1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

func (p *Prober) client(t Target, address netip.AddrPort) *redis.Client {
	silence()
	return redis.NewClient(p.options(t, address))
}

func (p *Prober) sentinel(t Target, address netip.AddrPort) *redis.SentinelClient {
	return redis.NewSentinelClient(p.options(t, address))
}

// silence takes the log of go-redis away, which all of its clients share: errors are returned anyway.
var silence = sync.OnceFunc(func() { redis.SetLogger(discard{}) })

type discard struct{}

func (discard) Printf(context.Context, string, ...any) {}

// verified opens a TLS connection. If there are credentials to send, it verifies the server.
func (p *Prober) verified(ctx context.Context, t Target, address netip.AddrPort) (net.Conn, error) {
	roots, err := p.systemRoots()
	if err != nil {
		return nil, err
	}
	if len(t.CA) > 0 {
		file, err := ParseCA(t.CA)
		if err != nil {
			return nil, err
		}
		roots = file.pool
	}
	conn, err := p.connect(ctx, address)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{ServerName: t.name(), RootCAs: roots, Time: p.now, MinVersion: tls.VersionTLS12}
	if t.Certificate != nil {
		config.Certificates = []tls.Certificate{*t.Certificate}
	}
	// Without credentials the same facts are read from a server that cannot be verified.
	config.InsecureSkipVerify = t.Password == ""
	client := tls.Client(conn, config)
	ctx, cancel := context.WithTimeout(ctx, p.timeout())
	defer cancel()
	if err := client.HandshakeContext(ctx); err != nil {
		conn.Close()
		var verification *tls.CertificateVerificationError
		var unknown x509.UnknownAuthorityError
		if errors.As(err, &verification) || errors.As(err, &unknown) {
			return nil, fmt.Errorf("%w, and it is not: %w", errUnverified, err)
		}
		return nil, err
	}
	return client, nil
}

// clusterNodes returns the nodes that the cluster announces to its clients, none if the server is not of a cluster.
func clusterNodes(ctx context.Context, c *redis.Client) ([]Node, error) {
	shards, err := c.ClusterShards(ctx).Result()
	if err != nil { // Redis 7.0 introduced it, and managed services may not allow it
		return clusterSlots(ctx, c)
	}
	var nodes []Node
	for _, shard := range shards {
		for _, n := range shard.Nodes {
			nodes = append(nodes, Node{announcedHost(n.Endpoint, n.IP), uint16(cmp.Or(n.TLSPort, n.Port)), n.Role})
		}
	}
	return sorted(nodes), nil
}

// announcedHost is the endpoint that clients are sent to. A "?" is an unknown name; clients then use the host that they
// have.
func announcedHost(endpoint, ip string) string {
	if endpoint == "?" {
		return ""
	}
	return cmp.Or(endpoint, ip)
}

func clusterSlots(ctx context.Context, c *redis.Client) ([]Node, error) {
	slots, err := c.ClusterSlots(ctx).Result() //nolint:staticcheck // servers before Redis 7 have no CLUSTER SHARDS
	switch {
	case err != nil && strings.Contains(err.Error(), "cluster support disabled"):
		return nil, nil
	case err != nil:
		return nil, err
	}
	var nodes []Node
	for _, slot := range slots {
		for i, n := range slot.Nodes {
			host, port, err := net.SplitHostPort(n.Addr)
			number, numberErr := strconv.ParseUint(port, 10, 16)
			if err != nil || numberErr != nil {
				continue
			}
			role := "replica"
			if i == 0 {
				role = "master"
			}
			nodes = append(nodes, Node{announcedHost(host, ""), uint16(number), role})
		}
	}
	return sorted(nodes), nil
}

// watched returns the masters of a Sentinel, their replicas and the other Sentinels.
func watched(ctx context.Context, c *redis.SentinelClient) ([]Node, error) {
	defer c.Close()
	masters, err := c.Masters(ctx).Result()
	if err != nil {
		return nil, err
	}
	var nodes []Node
	add := func(facts map[string]string, role string) {
		if port, err := strconv.ParseUint(facts["port"], 10, 16); err == nil {
			nodes = append(nodes, Node{facts["ip"], uint16(port), role})
		}
	}
	for _, m := range masters {
		master := pairs(m)
		add(master, "master")
		replicas, err := c.Replicas(ctx, master["name"]).Result()
		if err != nil {
			return sorted(nodes), err
		}
		for _, r := range replicas {
			add(r, "replica")
		}
		sentinels, err := c.Sentinels(ctx, master["name"]).Result()
		if err != nil {
			return sorted(nodes), err
		}
		for _, s := range sentinels {
			add(s, "sentinel")
		}
	}
	return sorted(nodes), nil
}

// pairs reads a list of keys and values.
func pairs(list any) map[string]string {
	facts := map[string]string{}
	switch l := list.(type) {
	case []any:
		for i := 0; i+1 < len(l); i += 2 {
			facts[fmt.Sprint(l[i])] = fmt.Sprint(l[i+1])
		}
	case map[any]any:
		for k, v := range l {
			facts[fmt.Sprint(k)] = fmt.Sprint(v)
		}
	}
	return facts
}

// sorted returns the nodes by host and port, each once.
func sorted(nodes []Node) []Node {
	slices.SortFunc(nodes, func(a, b Node) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port))
	})
	return slices.CompactFunc(nodes, func(a, b Node) bool { return a.Host == b.Host && a.Port == b.Port })
}
