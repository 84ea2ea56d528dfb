package integration

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// rate is the number of pods per second under load, if the machine is fast enough.
const rate = 100

// stream creates pods that request TLS, at the rate, and keeps the result of each.
type stream struct {
	c      *cluster
	begun  time.Time
	cancel context.CancelFunc
	driver sync.WaitGroup

	mu       sync.Mutex
	times    []time.Duration
	failures []error
}

// stream starts a stream in ten namespaces with the prefix.
func (c *cluster) stream(prefix string) *stream {
	c.t.Helper()
	var namespaces []string
	for n := range 10 {
		namespaces = append(namespaces, c.namespace(fmt.Sprintf("%s-%d", prefix, n), nil, nil))
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	s := &stream{c: c, begun: time.Now(), cancel: cancel}
	s.driver.Go(func() {
		room := make(chan struct{}, rate/4) // limits the backlog on a slow machine
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			room <- struct{}{}
			s.driver.Go(func() {
				defer func() { <-room }()
				s.create(namespaces[n%len(namespaces)], fmt.Sprintf("app-%d", n))
			})
		}
	})
	return s
}

func (s *stream) create(namespace, name string) {
	before := time.Now()
	p := pod(namespace, name, requesting())
	err := s.c.Client.Create(s.c.t.Context(), p)
	if err == nil && len(vips(p, "redis.example.com")) != 1 {
		err = fmt.Errorf("pod %s was admitted without its VIP", p.Name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times = append(s.times, time.Since(before))
	if err != nil {
		s.failures = append(s.failures, err)
	}
}

// answered waits for this many more answers.
func (s *stream) answered(c *cluster, more int) {
	c.t.Helper()
	count := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.times)
	}
	before := count()
	c.eventually(fmt.Sprintf("%d more answers", more), func(context.Context) error {
		if now := count(); now < before+more {
			return fmt.Errorf("%d", now-before)
		}
		return nil
	})
}

// failed returns the number of failures so far, and the first error.
func (s *stream) failed() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.failures) == 0 {
		return 0, nil
	}
	return len(s.failures), s.failures[0]
}

// end stops the stream, and requires that no creation has failed.
func (s *stream) end(c *cluster) {
	c.t.Helper()
	s.cancel()
	s.driver.Wait()
	slices.Sort(s.times)
	took := time.Since(s.begun)
	c.t.Logf("%d pods in %s, %.0f a second; p50 %s, p99 %s, longest %s", len(s.times), took.Round(time.Second),
		float64(len(s.times))/took.Seconds(), s.times[len(s.times)/2], s.times[len(s.times)*99/100], s.times[len(s.times)-1])
	if n, first := s.failed(); n > 0 {
		c.t.Errorf("%d of %d admissions failed, the first with: %v", n, len(s.times), first)
	}
}
