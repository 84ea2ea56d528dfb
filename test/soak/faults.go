package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis-tls/redis-tls/test/harness"
)

// fault is a fault of the cluster in a phase. inject returns when it is over.
type fault struct {
	name   string
	inject func(context.Context, *soak) error
	// prepare, if set, is called before the state of running pods is read.
	prepare func(context.Context, *soak) error
	// deletes is set if the fault itself deletes the objects of running pods.
	deletes bool
}

// faultless is the first phase, for comparison.
func faultless(d time.Duration) fault {
	return fault{name: "none", inject: func(ctx context.Context, _ *soak) error {
		wait(ctx, d)
		return nil
	}}
}

// killed kills the process of the leader, or of a follower, as a crash of the process would. The kubelet starts it
// again in place.
func killed(theLeader bool, times int) fault {
	name := "kill -9 of a follower"
	if theLeader {
		name = "kill -9 of the leader"
	}
	return fault{name: name, inject: func(ctx context.Context, s *soak) error {
		for range times {
			leader, followers, err := s.replicas.Leader(ctx)
			if err != nil {
				return err
			}
			target := leader
			if !theLeader {
				if len(followers) == 0 {
					return errors.New("no follower runs")
				}
				target = followers[0]
			}
			s.say("  killing %s", target.Address)
			target.Kill()
			if err := s.allReady(ctx); err != nil {
				return err
			}
		}
		return nil
	}}
}

// rolled restarts all replicas as a Deployment's rolling update does.
func rolled(times int) fault {
	return fault{name: "rolling restart (SIGTERM)", inject: func(ctx context.Context, s *soak) error {
		s.kubelet.Lock() // a stopped replica must not be started again
		defer s.kubelet.Unlock()
		for range times {
			if err := s.replicas.Roll(ctx, s.release, s.options); err != nil {
				return err
			}
		}
		return nil
	}}
}

// restarted kills kube-apiserver and starts it again.
func restarted() fault {
	return fault{name: "kube-apiserver restarted", inject: func(ctx context.Context, s *soak) error {
		if err := s.RestartAPIServer(ctx); err != nil {
			return err
		}
		return s.allReady(ctx)
	}}
}

// stopped pauses etcd: its connections stay open, and it answers nothing.
func stopped(d time.Duration) fault {
	return fault{name: fmt.Sprintf("etcd stopped for %s", d), inject: func(ctx context.Context, s *soak) error {
		if err := s.Etcd.Pause(); err != nil {
			return err
		}
		wait(ctx, d)
		if err := s.Etcd.Resume(); err != nil {
			return err
		}
		return s.allReady(ctx)
	}}
}

// lagging holds all watches of all replicas back.
func lagging(d time.Duration) fault {
	return fault{name: fmt.Sprintf("watches lag %s", d), inject: func(ctx context.Context, s *soak) error {
		release := s.proxy.Hold()
		defer release()
		s.say("  holding back %d watches", s.proxy.Watches())
		wait(ctx, d)
		return nil
	}}
}

// gone cuts all watches, and ensures that none of them can continue: etcd is compacted, and a restarted API server has
// no older revision.
func gone() fault {
	return fault{name: "410 Gone, relist", inject: func(ctx context.Context, s *soak) error {
		before := s.proxy.Expired()
		restore := s.proxy.Cut()
		defer restore()
		wait(ctx, 5*time.Second) // in this time pods come and go
		revision, err := s.CompactEtcd(ctx)
		if err != nil {
			return err
		}
		if err := s.RestartAPIServer(ctx); err != nil {
			return err
		}
		restore()
		err = harness.Eventually(ctx, recovery, "as many watches as there are replicas to be answered 410 Gone",
			func(context.Context) error {
				if n := s.proxy.Expired() - before; n < len(s.replicas.All()) {
					return fmt.Errorf("%d were", n)
				}
				return nil
			})
		if err != nil {
			return err
		}
		s.say("  etcd compacted to revision %d; 410 Gone was answered %d times", revision, s.proxy.Expired()-before)
		return s.allReady(ctx)
	}}
}

// unserved deletes Istio's kinds with all of their objects, and installs them again.
func unserved() fault {
	return fault{name: "Istio's CRDs removed and back", deletes: true, inject: func(ctx context.Context, s *soak) error {
		if err := s.RemoveIstioCRDs(ctx); err != nil {
			return err
		}
		s.say("  they are gone")
		wait(ctx, 5*time.Second)
		return s.InstallIstioCRDs(ctx)
	}}
}
