package bed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/redis-tls/redis-tls/test/harness"
)

// RedisOptions configure a redis-server.
type RedisOptions struct {
	// Port is the plaintext port. If it is 0, the server has none.
	Port uint16
	// TLSPort is the TLS port, with the certificate Leaf. If it is 0, the server has none.
	TLSPort uint16
	Leaf    *Leaf
	// ClientCA is the CA, in PEM, of the certificate that a client must show. If it is empty, clients need none.
	ClientCA []byte
	// Config is the content of its configuration file, which a Sentinel requires. If it is empty, there is no file.
	Config string
	// Args are further arguments.
	Args []string
}

// RunRedis runs a redis-server on the host and waits until it listens.
func (h *Host) RunRedis(ctx context.Context, o RedisOptions) (*harness.Process, error) {
	if err := errors.Join(
		need("redis-server", h.bed.components.redisServer),
		need("redis-cli", h.bed.components.redisCLI),
	); err != nil {
		return nil, err
	}
	dir := filepath.Join(h.bed.dir, h.Namespace)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	args := []string{h.bed.components.redisServer}
	if o.Config != "" {
		path := filepath.Join(dir, fmt.Sprintf("redis-%d.conf", max(o.Port, o.TLSPort)))
		if err := os.WriteFile(path, []byte(o.Config), 0o644); err != nil {
			return nil, err
		}
		args = append(args, path)
	}
	args = append(args, "--port", fmt.Sprint(o.Port), "--dir", dir, "--save", "", "--protected-mode", "no")
	if o.TLSPort != 0 {
		certificate, key, ca := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt")
		authorities, clients := o.Leaf.CA, "no"
		if len(o.ClientCA) > 0 {
			authorities, clients = o.ClientCA, "yes"
		}
		if err := errors.Join(
			os.WriteFile(certificate, o.Leaf.Certificate, 0o644),
			os.WriteFile(key, o.Leaf.Key, 0o600),
			os.WriteFile(ca, authorities, 0o644),
		); err != nil {
			return nil, err
		}
		args = append(args, "--tls-port", fmt.Sprint(o.TLSPort), "--tls-cert-file", certificate, "--tls-key-file", key,
			"--tls-ca-cert-file", ca, "--tls-auth-clients", clients)
	}
	p := h.process("redis-server", nil, append(args, o.Args...)...)
	if err := p.Start(); err != nil {
		return nil, err
	}
	for _, port := range []uint16{o.Port, o.TLSPort} {
		if port == 0 {
			continue
		}
		if err := h.waitForPort(ctx, p, port); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// RunRedisCluster runs a Redis Cluster with one node on each host, of which there must be at least three. The nodes use
// TLS with clients and with each other. They divide the slots equally, in the order of the hosts. The functions may
// change the options of each node.
func (b *Bed) RunRedisCluster(
	ctx context.Context, hosts []*Host, o RedisOptions, change ...func(i int, node *RedisOptions),
) error {
	create := []string{"create"}
	for i, h := range hosts {
		node := o
		for _, f := range change {
			f(i, &node)
		}
		if err := h.RunClusterNode(ctx, node); err != nil {
			return err
		}
		create = append(create, netip.AddrPortFrom(h.Address, node.TLSPort).String())
	}
	return b.Cluster(ctx, o.Leaf.CA, create...)
}

// RunClusterNode runs a redis-server on the host that belongs to no Redis Cluster yet.
func (h *Host) RunClusterNode(ctx context.Context, o RedisOptions) error {
	o.Args = append([]string{
		"--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-announce-ip", h.Address.String(),
	}, o.Args...)
	_, err := h.RunRedis(ctx, o)
	return err
}

// Cluster runs redis-cli --cluster outside any pod.
func (b *Bed) Cluster(ctx context.Context, ca []byte, args ...string) error {
	path := filepath.Join(b.dir, "cluster-ca.crt")
	if err := os.WriteFile(path, ca, 0o644); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	command := append([]string{"--tls", "--cacert", path, "--cluster-yes", "--cluster"}, args...)
	if out, err := exec.CommandContext(ctx, b.components.redisCLI, command...).CombinedOutput(); err != nil {
		return fmt.Errorf("redis-cli --cluster %v: %w: %s", args, err, out)
	}
	return nil
}

func (h *Host) waitForPort(ctx context.Context, p *harness.Process, port uint16) error {
	what := fmt.Sprintf("%s to listen on %d", p.Name, port)
	return harness.Eventually(ctx, startTimeout, what, func(context.Context) error {
		if err := p.Crashed(); err != nil {
			return err
		}
		conn, err := h.Dial(port)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// Dial connects to the host from outside of any pod.
func (h *Host) Dial(port uint16) (net.Conn, error) {
	return net.DialTimeout("tcp", netip.AddrPortFrom(h.Address, port).String(), 5*time.Second)
}
