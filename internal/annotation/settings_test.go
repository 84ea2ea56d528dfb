package annotation

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

func TestSettingsOfThePod(t *testing.T) {
	const host = "redis-tls/host"
	for _, test := range []struct {
		name   string
		in     Input
		want   origination.Settings
		labels []string // besides those of originations and of the restriction
	}{
		{
			name:   "a server",
			in:     pod("redis-tls/server", "strict"),
			want:   origination.Settings{Server: origination.ServerStrict},
			labels: []string{"redis-tls/server=strict"},
		},
		{
			name:   "a server that is a client too",
			in:     pod("redis-tls/server", "strict", host, "a.example.com"),
			want:   origination.Settings{Server: origination.ServerStrict},
			labels: []string{"redis-tls/server=strict"},
		},
		{
			name: "a restricted pod",
			in:   pod("redis-tls/sidecar", "restrict", host, "a.example.com"),
			want: origination.Settings{Sidecar: origination.SidecarRestrict},
		},
		{
			name: "an inherited restriction",
			in:   inherit("redis-tls/sidecar", "restrict", host, "a.example.com"),
			want: origination.Settings{Sidecar: origination.SidecarRestrict},
		},
		{
			name: "a restriction that the pod removes",
			in:   withAnnotation(inherit("redis-tls/sidecar", "restrict", host, "a.example.com"), "redis-tls/sidecar", ""),
			want: origination.Settings{},
		},
		{
			name: "a restriction to several, one in the mesh",
			in: pod(
				"redis-tls/sidecar", "restrict",
				host, "a.example.com",
				"x.redis-tls/host", "six",
				"x.redis-tls/mode", "istio-mutual",
			),
			want: origination.Settings{Sidecar: origination.SidecarRestrict},
		},
		{
			name: "neither",
			in:   pod(host, "a.example.com"),
			want: origination.Settings{},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := Resolve(test.in, config.Default(), headless{cluster})
			wantErrors(t, res)
			if res.Settings != test.want || res.Skip != "" {
				t.Errorf("settings %+v, skip %q", res.Settings, res.Skip)
			}
			wantSameFromStatus(t, res, test.in, config.Default(), headless{cluster})
			want := append([]string{"redis-tls/injected=true"}, test.labels...)
			keys := []string{}
			for i := range res.Originations {
				keys = append(keys, res.Originations[i].Key)
				want = append(want, res.Originations[i].Label()+"=true")
			}
			if test.want.Sidecar != "" {
				want = append(want, "redis-tls/egress-"+egressHash(keys...)+"=true")
			}
			var got []string
			for key, value := range origination.Labels(res.Originations, res.Settings) {
				got = append(got, key+"="+value)
			}
			if diff := cmp.Diff(want, got, cmpopts.SortSlices(strings.Compare)); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
		})
	}
}

// egressHash retypes the hash of the hosts of a Sidecar.
func egressHash(keys ...string) string {
	slices.Sort(keys)
	return origination.Hash(append([]string{"egress"}, keys...)...)
}

// withAnnotation adds an annotation to the pod.
func withAnnotation(in Input, key, value string) Input {
	in.Annotations = keysAndValues(key, value)
	return in
}
