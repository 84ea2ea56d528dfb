package mesh_test

import (
	"fmt"
	"testing"

	"github.com/redis-tls/redis-tls/internal/mesh"
)

// BenchmarkObjects computes the objects of a namespace in which all of them exist.
func BenchmarkObjects(b *testing.B) {
	for _, keys := range []int{1, 100, 800} {
		var byName, byAddress []mesh.Request
		for i := range keys {
			vip := fmt.Sprintf("240.241.%d.%d", i/200, 1+i%200)
			byName = append(byName, claim("cart", fmt.Sprint(i), i, redis(fmt.Sprintf("redis-%d.example.com", i), pinned(vip))))
			byAddress = append(
				byAddress,
				claim("cart", fmt.Sprint(i), i, redis(fmt.Sprintf("ip-%d", i), at(fmt.Sprintf("10.0.%d.%d/32", i/200, 1+i%200)))),
			)
		}
		for name, live := range map[string][]mesh.Request{"name": byName, "address": byAddress} {
			b.Run(fmt.Sprintf("by=%s/keys=%d", name, keys), func(b *testing.B) {
				snap := snapshot(objects(snapshot(), live...))
				snap.Live = live
				cfg := testConfig()
				b.ReportAllocs()
				for b.Loop() {
					mesh.Objects(snap, cfg)
				}
			})
		}
	}
}
