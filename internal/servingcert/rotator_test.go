package servingcert

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/redis-tls/redis-tls/test/catalog"
)

// Unit: replicas with a fake API server. The integration tests use a real one, with RBAC.

func secret() *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: "redis-tls",
		Name:      "cert",
		Labels:    map[string]string{"chart": "redis-tls"},
	}}
}

func newConfiguration() *configuration {
	entry := func(name string) admissionregistrationv1.MutatingWebhook {
		policy := admissionregistrationv1.Fail
		return admissionregistrationv1.MutatingWebhook{Name: name, FailurePolicy: &policy,
			ClientConfig: admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{
				Namespace: "redis-tls",
				Name:      "webhook",
			}}}
	}
	return &configuration{
		ObjectMeta: metav1.ObjectMeta{Name: "00-redis-tls"},
		Webhooks:   []admissionregistrationv1.MutatingWebhook{entry("annotated"), entry("opted-in")},
	}
}

// world is an API server with failures on demand, and a clock.
type world struct {
	client.WithWatch
	now                 time.Time
	failPatch, failPuts error
}

func newWorld(objects ...client.Object) *world {
	w := &world{now: start}
	w.WithWatch = fake.NewClientBuilder().WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Patch: func(
			ctx context.Context,
			c client.WithWatch,
			o client.Object,
			p client.Patch,
			opts ...client.PatchOption,
		) error {
			if w.failPatch != nil {
				return w.failPatch
			}
			return c.Patch(ctx, o, p, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			if w.failPuts != nil {
				return w.failPuts
			}
			return c.Update(ctx, o, opts...)
		},
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			if w.failPuts != nil {
				return w.failPuts
			}
			return c.Apply(ctx, o, opts...)
		},
	}).Build()
	return w
}

// replica returns a Rotator that reads from the API server or from a cache that is behind.
func (w *world) replica(t *testing.T, reader client.Reader) *Rotator {
	t.Helper()
	return w.replicaOf(t, SelfSigned, reader)
}

func (w *world) replicaOf(t *testing.T, mode Mode, reader client.Reader) *Rotator {
	t.Helper()
	o := testOptions(t, func() time.Time { return w.now })
	o.Mode = mode
	m, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return newRotator(o, reader, w, m, testr.New(t))
}

func (w *world) secret(t *testing.T) *corev1.Secret {
	t.Helper()
	s := secret()
	if err := w.Get(t.Context(), client.ObjectKeyFromObject(s), s); err != nil {
		t.Fatal(err)
	}
	return s
}

// put writes the Secret as another client would.
func (w *world) put(t *testing.T, data map[string][]byte) {
	t.Helper()
	s := w.secret(t)
	s.Data = data
	refused := w.failPuts
	w.failPuts = nil
	defer func() { w.failPuts = refused }()
	if err := w.Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
}

// trustOnly overwrites the caBundle of every entry.
func (w *world) trustOnly(t *testing.T, bundle []byte) {
	t.Helper()
	c := newConfiguration()
	if err := w.Get(t.Context(), client.ObjectKeyFromObject(c), c); err != nil {
		t.Fatal(err)
	}
	for i := range c.Webhooks {
		c.Webhooks[i].ClientConfig.CABundle = bundle
	}
	if err := w.Update(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// version returns the resourceVersion of the configuration.
func (w *world) version(t *testing.T) string {
	t.Helper()
	c := newConfiguration()
	if err := w.Get(t.Context(), client.ObjectKeyFromObject(c), c); err != nil {
		t.Fatal(err)
	}
	return c.ResourceVersion
}

func (w *world) bundles(t *testing.T) (bundles [][]byte) {
	t.Helper()
	c := newConfiguration()
	if err := w.Get(t.Context(), client.ObjectKeyFromObject(c), c); err != nil {
		t.Fatal(err)
	}
	for _, webhook := range c.Webhooks {
		bundles = append(bundles, webhook.ClientConfig.CABundle)
	}
	return bundles
}

func reconcile(t *testing.T, r *Rotator) error {
	t.Helper()
	_, err := r.reconcile(t.Context())
	return err
}

func mustReconcile(t *testing.T, r *Rotator) {
	t.Helper()
	if err := reconcile(t, r); err != nil {
		t.Fatal(err)
	}
}

// handshake dials the replica as the API server does, with the bundle and at that time.
func handshake(t *testing.T, r *Rotator, bundle []byte, now time.Time) error {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(bundle)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: r.GetCertificate})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		if server, err := listener.Accept(); err == nil {
			defer server.Close()
			server.(*tls.Conn).HandshakeContext(t.Context()) //nolint:errcheck // the client's side reports errors
		}
	}()
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: dnsName, Time: at(now)}}
	connection, err := dialer.DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	return connection.Close()
}

func TestFirstReplicaFillsTheSecretAndIsTrusted(t *testing.T) {
	w := newWorld(secret(), newConfiguration())
	r := w.replica(t, w)
	if r.Ready(nil) == nil {
		t.Error("ready before there is a certificate")
	}
	if _, err := r.GetCertificate(nil); err == nil {
		t.Error("serves before there is a certificate")
	}
	mustReconcile(t, r)
	if err := r.Ready(nil); err != nil {
		t.Errorf("not ready: %v", err)
	}
	filled := w.secret(t)
	if diff := cmp.Diff(secret().Labels, filled.Labels); diff != "" {
		t.Errorf("the Secret's labels changed: %s", diff)
	}
	want := [][]byte{filled.Data[keyCA], filled.Data[keyCA]}
	if diff := cmp.Diff(want, w.bundles(t)); diff != "" {
		t.Errorf("the entries' caBundle: %s", diff)
	}
	if err := handshake(t, r, w.bundles(t)[0], start); err != nil {
		t.Errorf("the API server would not accept it: %v", err)
	}
	before := filled.ResourceVersion
	mustReconcile(t, r)
	if after := w.secret(t).ResourceVersion; after != before {
		t.Error("a second pass wrote the Secret again")
	}
}

func TestPatchOfTheBundleKeepsTheRestOfTheConfiguration(t *testing.T) {
	w := newWorld(secret(), newConfiguration())
	mustReconcile(t, w.replica(t, w))
	got := newConfiguration()
	if err := w.Get(t.Context(), client.ObjectKeyFromObject(got), got); err != nil {
		t.Fatal(err)
	}
	want := newConfiguration().Webhooks
	for i := range want {
		want[i].ClientConfig.CABundle = w.secret(t).Data[keyCA]
	}
	if diff := cmp.Diff(want, got.Webhooks); diff != "" {
		t.Errorf("entries: %s", diff)
	}
}

func TestPatchOfTheBundleHasTheResourceVersion(t *testing.T) {
	c := newConfiguration()
	c.ResourceVersion = "7"
	patch, err := bundlePatch(c, decode(issued(t, nil, start)[keyCA]), nil, start)
	if err != nil || !bytes.Contains(patch, []byte(`"resourceVersion":"7"`)) {
		t.Errorf("patch %s (%v) has no resourceVersion", patch, err)
	}
}

// behind reads an old version of the Secret, as an informer does whose event is delayed.
type behind struct {
	client.Reader
	secret *corev1.Secret
}

func (b behind) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	if s, ok := o.(*corev1.Secret); ok {
		b.secret.DeepCopyInto(s)
		return nil
	}
	return b.Reader.Get(ctx, key, o, opts...)
}

func TestOneOfTwoReplicasWritesAndBothServeTheSame(t *testing.T) {
	w := newWorld(secret(), newConfiguration())
	empty := w.secret(t)
	one, two := w.replica(t, w), w.replica(t, behind{w, empty})
	mustReconcile(t, one)
	written := w.secret(t)
	if err := reconcile(t, two); !errors.Is(err, errBehind) {
		t.Fatalf("got %v, want the conflict to wait for the event", err)
	}
	if diff := cmp.Diff(written.Data, w.secret(t).Data); diff != "" {
		t.Error("the second replica overwrote the first one's certificate")
	}
	two.reader = w // the event has arrived
	mustReconcile(t, two)
	if !bytes.Equal(one.serving.Load().tls.Certificate[0], two.serving.Load().tls.Certificate[0]) {
		t.Error("the replicas serve different certificates")
	}
}

func TestReplicaWithAnOldSecretKeepsTheNewCA(t *testing.T) {
	w := newWorld(secret(), newConfiguration())
	late := w.replica(t, w)
	mustReconcile(t, late)
	old := w.secret(t)
	late.reader = behind{w, old}
	w.put(t, nil)
	one := w.replica(t, w)
	mustReconcile(t, one)
	w.trustOnly(t, w.secret(t).Data[keyCA]) // another client removes the CA that the late replica serves under
	mustReconcile(t, late)
	for _, r := range []*Rotator{one, late} {
		if err := handshake(t, r, w.bundles(t)[0], start); err != nil {
			t.Errorf("one of the replicas is not trusted: %v", err)
		}
	}
	before := w.version(t)
	mustReconcile(t, one)
	mustReconcile(t, late)
	if w.version(t) != before {
		t.Error("the replicas keep overwriting the bundle")
	}
}

func TestStartReconcilesOnChanges(t *testing.T) {
	w := newWorld(secret(), newConfiguration())
	r := w.replica(t, w)
	r.start = func(ctx context.Context) error { <-ctx.Done(); return nil }
	r.synced = func(context.Context) bool { return true }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.Start(ctx) }()
	await(t, "a certificate", func() bool { return r.Ready(nil) == nil })

	c := newConfiguration()
	if err := w.Get(ctx, client.ObjectKeyFromObject(c), c); err != nil {
		t.Fatal(err)
	}
	c.Webhooks[1].ClientConfig.CABundle = nil
	if err := w.Update(ctx, c); err != nil {
		t.Fatal(err)
	}
	r.wake()
	await(t, "the restored bundle", func() bool { return len(w.bundles(t)[1]) > 0 })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Start returned %v at the end", err)
	}
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("no %s within 10 s", what)
		case <-tick.C:
		}
	}
}

func TestOptionsMustBeComplete(t *testing.T) {
	c := catalog.Open(t)
	for name, o := range map[string]Options{
		"no namespace":     {Secret: "s", Service: "w", Configuration: "c"},
		"no Secret":        {Namespace: "n", Service: "w", Configuration: "c"},
		"no Service":       {Namespace: "n", Secret: "s", Configuration: "c"},
		"no configuration": {Namespace: "n", Secret: "s", Service: "w"},
		"short validity":   {Namespace: "n", Secret: "s", Service: "w", Configuration: "c", CertValidity: time.Hour},
	} {
		err := o.complete()
		if err == nil {
			t.Errorf("%s was accepted", name)
			continue
		}
		c.Add(name, err.Error())
	}
}

// TestReadinessGivesTheReason keeps the reasons for which a replica is not ready.
func TestReadinessGivesTheReason(t *testing.T) {
	c := catalog.Open(t)
	w := newWorld(secret(), newConfiguration())
	add := func(name string, r *Rotator) {
		t.Helper()
		err := r.Ready(nil)
		if err == nil {
			t.Fatalf("%s: ready", name)
		}
		c.Add(name, err.Error())
	}
	r := w.replica(t, w)
	add("no certificate", r)
	w.failPatch = errors.New("refused")
	if reconcile(t, r) == nil {
		t.Fatal("no error")
	}
	add("an untrusted certificate", r)
	w.failPatch = nil
	mustReconcile(t, r)
	w.put(t, nil)
	late := w.replica(t, w)
	mustReconcile(t, late)
	add("a new CA", late)
}
