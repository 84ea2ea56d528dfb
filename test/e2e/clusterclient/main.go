// Command clusterclient is an app of the e2e tests: a Redis Cluster client that knows nothing of TLS. It writes and
// reads keys of all shards until it is terminated, and prints which nodes answered and what failed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	address := flag.String("address", "", "host:port of the cluster")
	password := flag.String("password", "", "password, sent with each new connection")
	rounds := flag.Int("rounds", 0, "rounds of 30 keys; 0: until SIGTERM")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *address, *password, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, address, password string, rounds int) error {
	c := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: []string{address}, Password: password,
		DialTimeout: 2 * time.Second, ReadTimeout: 2 * time.Second, MaxRedirects: 8,
	})
	defer c.Close()
	commands := 0
	var failures []string
	for round := 0; ctx.Err() == nil && (rounds == 0 || round < rounds); round++ {
		for i := range 30 {
			key, value := fmt.Sprintf("key-%d", i), fmt.Sprintf("value-%d-%d", i, round)
			commands += 2
			if err := c.Set(ctx, key, value, 0).Err(); err != nil {
				failures = append(failures, fmt.Sprintf("SET %s: %v", key, err))
				continue
			}
			switch got, err := c.Get(ctx, key).Result(); {
			case err != nil:
				failures = append(failures, fmt.Sprintf("GET %s: %v", key, err))
			case got != value:
				failures = append(failures, fmt.Sprintf("GET %s: %q, want %q", key, got, value))
			}
		}
		if rounds == 0 {
			time.Sleep(200 * time.Millisecond)
		}
	}
	failures = slices.DeleteFunc(failures, func(f string) bool { return strings.Contains(f, context.Canceled.Error()) })
	var mu sync.Mutex
	var nodes []string
	err := c.ForEachMaster(context.Background(), func(ctx context.Context, node *redis.Client) error {
		keys, err := node.DBSize(ctx).Result()
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, fmt.Sprintf("%s has %d keys", node.Options().Addr, keys))
		return err
	})
	slices.Sort(nodes)
	fmt.Printf("%d commands, %d failed\n%s\n", commands, len(failures), strings.Join(nodes, "\n"))
	if len(failures) > 10 {
		failures = append(failures[:10], "…")
	}
	if len(failures) > 0 {
		err = errors.Join(err, errors.New(strings.Join(failures, "\n")))
	}
	return err
}
