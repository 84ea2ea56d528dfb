package integration

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// rate is of the pods created under load, if the machine gives it.
const rate = 100

// load creates pods that ask, at the rate, and takes note of what became of each.
type load struct {
	c      *cluster
	begun  time.Time
	cancel context.CancelFunc
	driver sync.WaitGroup

	mu       sync.Mutex
	times    []time.Duration
	failures []error
}

// load begins one, in ten namespaces of the prefix.
func (c *cluster) load(prefix string) *load {
	c.t.Helper()
	var namespaces []string
	for n := range 10 {
		namespaces = append(namespaces, c.namespace(fmt.Sprintf("%s-%d", prefix, n), nil, nil))
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	l := &load{c: c, begun: time.Now(), cancel: cancel}
	l.driver.Go(func() {
		room := make(chan struct{}, rate/4) // a machine that is slower than that is not made slower still
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			room <- struct{}{}
			l.driver.Go(func() {
				defer func() { <-room }()
				l.create(namespaces[n%len(namespaces)], fmt.Sprintf("app-%d", n))
			})
		}
	})
	return l
}

func (l *load) create(namespace, name string) {
	before := time.Now()
	p := pod(namespace, name, asking())
	err := l.c.Client.Create(l.c.t.Context(), p)
	if err == nil && len(pins(p, "redis.example.com")) != 1 {
		err = fmt.Errorf("pod %s was admitted without its pin", p.Name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.times = append(l.times, time.Since(before))
	if err != nil {
		l.failures = append(l.failures, err)
	}
}

// answered waits until that many more creations have been answered.
func (l *load) answered(c *cluster, more int) {
	c.t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.times)
	}
	before := count()
	c.eventually(fmt.Sprintf("%d more answers", more), func(context.Context) error {
		if now := count(); now < before+more {
			return fmt.Errorf("%d", now-before)
		}
		return nil
	})
}

// failed returns how many have failed so far, and the first reason.
func (l *load) failed() (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failures) == 0 {
		return 0, nil
	}
	return len(l.failures), l.failures[0]
}

// end ends the load, and wants none to have failed.
func (l *load) end(c *cluster) {
	c.t.Helper()
	l.cancel()
	l.driver.Wait()
	slices.Sort(l.times)
	took := time.Since(l.begun)
	c.t.Logf("%d pods in %s, %.0f a second; p50 %s, p99 %s, longest %s", len(l.times), took.Round(time.Second),
		float64(len(l.times))/took.Seconds(), l.times[len(l.times)/2], l.times[len(l.times)*99/100], l.times[len(l.times)-1])
	if n, first := l.failed(); n > 0 {
		c.t.Errorf("%d of %d admissions failed, the first with: %v", n, len(l.times), first)
	}
}
