package bed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/redis-tls/redis-tls/test/harness"
)

// NginxOptions configure an nginx.
type NginxOptions struct {
	// Ports are the plain ports. Their answer to GET is "plain".
	Ports []uint16
	// TLSPort is the port of HTTPS, with the certificate Leaf. Its answer to GET is "tls", the SNI, and the subject of
	// the client's certificate if there is one.
	TLSPort uint16
	Leaf    *Leaf
	// ClientCA is the CA, in PEM, of the certificate that a client must show. If it is empty, clients need none.
	ClientCA []byte
}

// RunNginx runs an nginx on the host and waits until it listens.
func (h *Host) RunNginx(ctx context.Context, o NginxOptions) (*harness.Process, error) {
	if err := need("nginx", h.bed.components.nginx); err != nil {
		return nil, err
	}
	dir := filepath.Join(h.bed.dir, h.Namespace)
	file := func(name string) string { return filepath.Join(dir, name) }
	plain, verify := "", ""
	for _, port := range o.Ports {
		plain += fmt.Sprintf("listen %d; ", port)
	}
	if len(o.ClientCA) > 0 {
		verify = fmt.Sprintf("ssl_verify_client on; ssl_client_certificate %s;", file("clients.crt"))
	}
	config := fmt.Sprintf(`daemon off; master_process off; user root; pid %[1]s/nginx.pid; error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path %[1]s; proxy_temp_path %[1]s;
  fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
  server { %[2]s return 200 "plain"; }
  server {
    listen %[3]d ssl;
    ssl_certificate %[1]s/tls.crt; ssl_certificate_key %[1]s/tls.key; %[4]s
    return 200 "tls $ssl_server_name $ssl_client_s_dn";
  }
}
`, dir, plain, o.TLSPort, verify)
	if err := errors.Join(
		os.MkdirAll(dir, 0o755),
		os.WriteFile(file("nginx.conf"), []byte(config), 0o644),
		os.WriteFile(file("clients.crt"), o.ClientCA, 0o644),
		os.WriteFile(file("tls.crt"), o.Leaf.Certificate, 0o644),
		os.WriteFile(file("tls.key"), o.Leaf.Key, 0o600),
	); err != nil {
		return nil, err
	}
	p := h.process("nginx", nil, h.bed.components.nginx, "-p", dir, "-e", "stderr", "-c", file("nginx.conf"))
	if err := p.Start(); err != nil {
		return nil, err
	}
	for _, port := range append(o.Ports, o.TLSPort) {
		if err := h.waitForPort(ctx, p, port); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// HTTP calls a URL with curl as the app, within 3 seconds, and returns the status and the body, as in "200 plain". The
// status is 000 if there is no answer.
func (p *Pod) HTTP(ctx context.Context, url string, args ...string) (string, error) {
	if err := need("curl", p.bed.components.curl); err != nil {
		return "", err
	}
	curl := []string{p.bed.components.curl, "--silent", "--max-time", "3", "--write-out", "\n%{http_code}", url}
	out, err := p.Exec(ctx, append(curl, args...)...)
	last := strings.LastIndexByte(out, '\n')
	return strings.TrimSpace(out[last+1:] + " " + out[:max(last, 0)]), err
}
