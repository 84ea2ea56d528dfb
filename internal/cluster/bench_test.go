package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis-tls/redis-tls/internal/cluster/clustertest"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/mesh"
)

// BenchmarkSnapshot measures what a pass reads from the view: a snapshot of a namespace with all its objects.
// The benchmark of package controller measures the rest of it.
func BenchmarkSnapshot(b *testing.B) {
	for _, keys := range []int{1, 100, 800} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			w := newWorld(b)
			w.serve(true)
			var pods []*Pod
			for i := range keys {
				pod := clustertest.Pod(
					b,
					"shop",
					fmt.Sprintf("cart-%d", i),
					"r1",
					"a",
					map[string]string{"redis-tls/host": fmt.Sprintf("redis-%d.example.com", i)},
					clustertest.Created(time.Duration(i)*time.Second),
				)
				w.pods.Add(pod)
				pods = append(pods, Trim(pod))
			}
			live := LiveOf("shop", pods, config.Default(), nil)
			desired := mesh.Objects(&mesh.Snapshot{
				Namespace:     "shop",
				RootNamespace: "istio-system",
				Live:          live.Requests,
			}, config.Default())
			for _, e := range desired.Entries {
				w.mesh["serviceentries"].Add(e)
			}
			for _, r := range desired.Rules {
				w.mesh["destinationrules"].Add(r)
			}
			view := w.start()
			w.eventually("the view to fill", 0, func() bool {
				return view.Synced() && len(view.Live("shop").Requests) == keys &&
					len(view.Snapshot("shop").Rules) == len(desired.Rules)
			})
			b.ReportAllocs()
			for b.Loop() {
				if snap := view.Snapshot("shop"); len(snap.Live) != keys || len(snap.Entries) != keys {
					b.Fatal(len(snap.Live), len(snap.Entries))
				}
			}
		})
	}
}
