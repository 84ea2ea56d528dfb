package main

import (
	"context"
	"errors"
	"maps"
	"time"
)

// drained drains the nodes of the replicas and of all pods. There is no other replica until the successor of an evicted
// one is ready.
func drained() fault {
	return fault{name: "drain of the nodes", inject: func(ctx context.Context, s *soak) error {
		s.kubelet.Lock() // a stopped replica must not be started again
		defer s.kubelet.Unlock()
		pods, err := s.after.evict(ctx, s.Evict)
		if err != nil {
			return err
		}
		s.say("  %d pods were evicted", pods)
		return s.replicas.Drain(ctx, s.release, s.options)
	}}
}

// mixed runs two releases side by side: two builds, with other defaults of the chart, so that one request has another
// key in each. First the earlier one leads, then the later one. At the end all replicas are of the earlier one.
func mixed(d time.Duration) fault {
	return fault{name: "two releases", inject: func(ctx context.Context, s *soak) error {
		if s.form.other == "" {
			return errors.New("-other is required")
		}
		values := maps.Clone(s.values)
		values["defaults"] = map[string]any{"redis-tls/connect-timeout": "7s"}
		later, err := s.RenderChart(values)
		if err != nil {
			return err
		}
		options := s.options
		options.Binary = s.form.other
		s.kubelet.Lock() // a stopped replica must not be started again
		defer s.kubelet.Unlock()
		leader, followers, err := s.replicas.Leader(ctx)
		if err != nil {
			return err
		}
		// A replica reads its configuration at its start.
		if err := s.Apply(ctx, later); err != nil {
			return err
		}
		next, err := s.replicas.Add(ctx, later, options)
		if err != nil {
			return err
		}
		for _, w := range followers {
			if err := s.replicas.Remove(ctx, w); err != nil {
				return err
			}
		}
		s.say("  the earlier release leads")
		wait(ctx, d)
		if err := s.replicas.Remove(ctx, leader); err != nil {
			return err
		}
		if _, _, err := s.replicas.Leader(ctx); err != nil {
			return err
		}
		s.say("  the later release leads")
		if err := s.restore(ctx); err != nil {
			return err
		}
		wait(ctx, d)
		return errors.Join(s.replicas.Remove(ctx, next), s.restore(ctx))
	}}
}

// restore applies the release, and adds a replica with it.
func (s *soak) restore(ctx context.Context) error {
	if err := s.Apply(ctx, s.release); err != nil {
		return err
	}
	_, err := s.replicas.Add(ctx, s.release, s.options)
	return err
}
