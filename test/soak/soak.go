package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/test/harness"
	"github.com/redis-tls/redis-tls/test/soak/result"
)

// form is the length and the load of a soak.
type form struct {
	rate   int    // pods per second
	binary string // path of cmd/webhook; empty: built from this tree
	other  string // path of a cmd/webhook with another version; only some faults need it
	// before and after are the times in which pods are created before and after each fault.
	before, after time.Duration
	// grace and delay are the chart's cleanup.gracePeriod and cleanup.delay.
	grace, delay time.Duration
	faults       []fault
}

// shortForm is for a test run, with the faults of the replicas only.
func shortForm() form {
	return form{
		rate: 20, before: 2 * time.Second, after: 2 * time.Second, grace: 2 * time.Second, delay: 5 * time.Second,
		faults: []fault{
			faultless(2 * time.Second),
			killed(true, 1),
			killed(false, 1),
			rolled(1),
			rotated(false),
			rotated(true),
		},
	}
}

// longForm has every fault. The delay is longer than the lag of the watches, as the chart's default should be.
func longForm() form {
	return form{
		rate: 25, before: 7 * time.Second, after: 10 * time.Second, grace: 10 * time.Second, delay: 75 * time.Second,
		faults: []fault{
			faultless(15 * time.Second), killed(true, 2), killed(false, 3), rolled(2), rotated(false), rotated(true),
			restarted(), stopped(20 * time.Second), lagging(time.Minute), gone(), unserved(),
			drained(), mixed(10 * time.Second), churned(20 * time.Second), flooded(), moved(), narrowed(),
		},
	}
}

// soak is a cluster under load and faults.
type soak struct {
	*harness.ControlPlane
	form     form
	say      func(format string, args ...any)
	values   map[string]any
	release  *harness.Release
	replicas *harness.Replicas
	options  harness.WebhookOptions
	proxy    *harness.WatchProxy
	cfg      config.Config
	tally    *result.Tally
	driver   *driver
	after    *aftermath
	phases   []*phase
	// kubelet is held while replicas are stopped on purpose.
	kubelet sync.Mutex
	// crashed are unexpected ends of replicas that did not lose their lease. Only keepRunning writes it.
	crashed []error
}

// run runs the soak. It writes a line of JSON for each pod to pods. If pods were created, it returns a tally, also with
// an error.
func run(
	ctx context.Context, f form, say func(format string, args ...any), pods io.Writer,
) (_ *result.Tally, err error) {
	s := &soak{form: f, say: say}
	if s.ControlPlane, err = harness.Start(ctx, harness.Options{Progress: say}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	if err := s.install(ctx); err != nil {
		return nil, err
	}
	if err := s.start(ctx, pods); err != nil {
		return nil, err
	}
	return s.tally, s.all(ctx)
}

// install installs Istio's kinds, the stand-in for its injector, the chart and its replicas.
func (s *soak) install(ctx context.Context) (err error) {
	if err := s.InstallIstioCRDs(ctx); err != nil {
		return err
	}
	if _, err := s.RunSidecarInjector(ctx, harness.InjectorOptions{Native: true}); err != nil {
		return err
	}
	if s.proxy, err = s.RunWatchProxy(); err != nil {
		return err
	}
	s.options = harness.WebhookOptions{
		Binary:  s.form.binary,
		Through: s.proxy,
		Args:    []string{"--ca-propagation-delay=" + propagationDelay.String()},
	}
	if s.options.Binary == "" {
		if s.options.Binary, err = s.Build(ctx, "./cmd/webhook", false); err != nil {
			return err
		}
	}
	s.values = map[string]any{
		"cleanup": map[string]any{"gracePeriod": s.form.grace.String(), "delay": s.form.delay.String()},
		// While watches lag, the hosts that are always new add up.
		"policy": map[string]any{"maxKeysPerNamespace": maxKeys},
	}
	s.say("the chart and its replicas")
	if s.release, s.replicas, err = s.InstallReplicas(ctx, s.values, s.options); err != nil {
		return err
	}
	s.cfg, err = configurationOf(s.release)
	s.cfg.VIP.CIDR = bothRanges
	return err
}

// bothRanges contains the chart's range of VIPs and that of [moved], for the checks of pods of both times.
var bothRanges = netip.MustParsePrefix("248.0.0.0/5")

// configurationOf reads the configuration of the replicas.
func configurationOf(r *harness.Release) (config.Config, error) {
	u, err := r.Find("ConfigMap", "redis-tls-webhook")
	if err != nil {
		return config.Config{}, err
	}
	content, _, err := unstructured.NestedString(u.Object, "data", "config.yaml")
	if err != nil {
		return config.Config{}, err
	}
	return annotation.ParseConfig([]byte(content))
}

// start creates the namespaces, and prepares the driver.
func (s *soak) start(ctx context.Context, pods io.Writer) error {
	var names []string
	for i, f := range s.form.faults {
		s.phases = append(s.phases, &phase{fault: f, index: i})
		names = append(names, f.name)
	}
	s.tally = result.NewTally(append(names, lastRow)...)
	for _, p := range s.phases {
		if err := s.prepare(ctx, p); err != nil {
			return err
		}
	}
	var mu sync.Mutex
	lines := json.NewEncoder(pods)
	record := func(p result.Pod) {
		s.tally.Add(p)
		if p.Outcome == result.Lost {
			s.say("  LOST %s/%s (%s): %s", p.Namespace, p.Name, p.Kind, p.Why)
		}
		mu.Lock()
		defer mu.Unlock()
		_ = lines.Encode(p) // the tally is the result
	}
	s.after = &aftermath{
		client:  s.Client,
		cfg:     s.cfg,
		record:  record,
		pods:    map[*followed]bool{},
		lastUse: map[string]time.Time{},
	}
	s.driver = &driver{clients: s.Clientset, rate: s.form.rate, after: s.after, record: record}
	s.driver.phase.Store(s.phases[0])
	return nil
}

// all injects the faults under load, and then waits until unused objects are deleted.
func (s *soak) all(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer func() {
		cancel()
		background.Wait()
		err = errors.Join(append(s.crashed, err)...)
	}()
	background.Go(func() { s.after.run(ctx) })
	background.Go(func() { s.keepRunning(ctx) })
	driving, stopDriving := context.WithCancel(ctx)
	defer stopDriving()
	driven := make(chan struct{})
	go func() {
		defer close(driven)
		s.driver.run(driving)
	}()
	var failed []error
	for _, p := range s.phases {
		failed = append(failed, s.inject(ctx, p, func() {
			if p.index+1 < len(s.phases) {
				s.driver.phase.Store(s.phases[p.index+1])
				return
			}
			stopDriving()
			<-driven
		}))
		if ctx.Err() != nil {
			return errors.Join(failed...)
		}
	}
	return errors.Join(append(failed, s.finish(ctx))...)
}

// lastRow is the row of what is found after all faults.
const lastRow = "at the end"

// finish waits until all objects that no pod requests are deleted.
func (s *soak) finish(ctx context.Context) error {
	s.say(lastRow)
	last := s.phases[len(s.phases)-1]
	within := short + s.form.grace + s.form.delay + recovery
	wrong, err := s.complete(ctx, last, within, func(metav1.Object) bool { return true })
	s.tally.AddWrong(lastRow, len(wrong))
	for _, w := range wrong {
		s.say("  WRONG: %s", w)
	}
	for _, p := range s.phases {
		s.after.abandon(p)
	}
	return err
}

// allReady waits until every replica is an endpoint of the Service, and one of them is the leader.
func (s *soak) allReady(ctx context.Context) error {
	for _, w := range s.replicas.All() {
		// The endpoint of a replica that has just died still exists.
		if err := harness.Eventually(ctx, 2*recovery, "replica "+w.Address.String()+" to be ready", w.Ready); err != nil {
			return err
		}
		if err := w.WaitForEndpoint(ctx, true); err != nil {
			return err
		}
	}
	_, _, err := s.replicas.Leader(ctx)
	return err
}

// relist is the period at which a kubelet checks that its containers run (its pod lifecycle event generator).
const relist = time.Second

// leaseLost is the message with which a leader ends that could not renew its lease in time (controller-runtime,
// pkg/manager/internal.go).
const leaseLost = "leader election lost"

// keepRunning restarts replicas that have ended in place, as a kubelet does.
func (s *soak) keepRunning(ctx context.Context) {
	tick := time.NewTicker(relist)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.kubelet.Lock()
		for _, w := range s.replicas.All() {
			if w.Alive() {
				continue
			}
			if err := w.Crashed(); err != nil {
				s.say("  replica %s: %v", w.Address, err)
				if !strings.Contains(err.Error(), leaseLost) {
					s.crashed = append(s.crashed, err)
				}
			}
			if err := w.Start(ctx); err != nil && ctx.Err() == nil {
				s.say("  starting replica %s again: %v", w.Address, err)
			}
		}
		s.kubelet.Unlock()
	}
}
