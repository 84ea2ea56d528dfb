package bed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Renew makes the host's redis-server present another certificate to new connections to its TLS port. Established
// connections stay.
func (h *Host) Renew(ctx context.Context, tlsPort uint16, leaf *Leaf) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	dir := filepath.Join(h.bed.dir, h.Namespace)
	certificate, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if err := errors.Join(
		os.WriteFile(certificate, leaf.Certificate, 0o644),
		os.WriteFile(key, leaf.Key, 0o600),
	); err != nil {
		return err
	}
	args := []string{"-h", h.Address.String(), "-p", fmt.Sprint(tlsPort), "--tls", "--insecure"}
	args = append(args, "CONFIG", "SET", "tls-cert-file", certificate, "tls-key-file", key)
	out, err := exec.CommandContext(ctx, h.bed.components.redisCLI, args...).CombinedOutput()
	if answer := strings.TrimSpace(string(out)); err != nil || answer != "OK" {
		return fmt.Errorf("giving %s another certificate: %q (%v)", h.Namespace, answer, err)
	}
	return nil
}
