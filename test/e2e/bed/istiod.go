package bed

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/redis-tls/redis-tls/test/harness"
)

// SetIstiodEnv restarts istiod with further variables. The returned function restarts it as it was.
func (b *Bed) SetIstiodEnv(ctx context.Context, variables ...string) (restore func(context.Context) error, err error) {
	env := b.Istiod.Env
	restart := func(ctx context.Context, env []string) error {
		if err := b.Istiod.Stop(10 * time.Second); err != nil {
			return err
		}
		b.Istiod.Env = env
		if err := b.Istiod.Start(); err != nil {
			return err
		}
		return b.WaitForIstiod(ctx)
	}
	restore = func(ctx context.Context) error { return restart(ctx, env) }
	return restore, restart(ctx, append(slices.Clone(env), variables...))
}

// SetMeshConfig adds to the mesh configuration, and waits until istiod has read it. The returned function removes it.
func (b *Bed) SetMeshConfig(
	ctx context.Context, change map[string]any,
) (restore func(context.Context) error, err error) {
	config := &corev1.ConfigMap{}
	if err := b.Client.Get(ctx, client.ObjectKey{Namespace: istioNamespace, Name: "istio"}, config); err != nil {
		return nil, err
	}
	before, mesh := config.Data["mesh"], map[string]any{}
	if err := yaml.Unmarshal([]byte(before), &mesh); err != nil {
		return nil, fmt.Errorf("parsing the mesh configuration: %w", err)
	}
	maps.Copy(mesh, change)
	after, err := yaml.Marshal(mesh)
	if err != nil {
		return nil, err
	}
	write := func(ctx context.Context, text string, changed bool) error {
		config.Data["mesh"] = text
		if err := b.Client.Update(ctx, config); err != nil {
			return err
		}
		for field := range change {
			if err := b.WaitForIstiodToKnow(ctx, "mesh", field, changed); err != nil {
				return err
			}
		}
		return nil
	}
	restore = func(ctx context.Context) error { return write(ctx, before, false) }
	return restore, write(ctx, string(after), true)
}

// WaitForIstiodToKnow waits until a debug page of istiod, as in "configz", has the text or no longer has it.
func (b *Bed) WaitForIstiodToKnow(ctx context.Context, page, text string, want bool) error {
	url := fmt.Sprintf("http://%s/debug/%s", netip.AddrPortFrom(b.fabric.loopback, 8080), page)
	waited := fmt.Sprintf("%s of istiod to have %s: %v", page, text, want)
	return harness.Eventually(ctx, readyTimeout, waited, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK || strings.Contains(string(body), text) != want {
			return fmt.Errorf("%s: %s, %d bytes", url, response.Status, len(body))
		}
		return nil
	})
}
