package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

func TestMain(m *testing.M) {
	flag.Parse()
	log.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// TestScale runs a small form of `make scale` on a real control plane. It proves that the webhook makes no API call for
// a warm admission, that a restart writes no existing object, and that every pod and every namespace gets what it
// requested. Only the full size measures times.
func TestScale(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane (-short)")
	}
	s := sizes{few: filling{4, 8}, many: filling{24, 96}, plain: filling{4, 20}, objects: 4,
		atOnce: 8, reviews: 200, reviewRate: 200, creations: 50}
	r, err := measure(t.Context(), s, options{streaming: true, progress: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.check(); err != nil {
		t.Error(err)
	}
	var text strings.Builder
	r.print(&text)
	t.Log("\n" + text.String())
}

func TestReadCalls(t *testing.T) {
	event := func(stage, verb, uri, resource, subresource string) string {
		return fmt.Sprintf(
			`{"stage":%q,"verb":%q,"requestURI":%q,"objectRef":{"resource":%q,"subresource":%q}}`,
			stage,
			verb,
			uri,
			resource,
			subresource,
		) + "\n"
	}
	got, serving, err := readCalls(strings.NewReader(
		event("ResponseStarted", "watch", "/api/v1/pods?watch=true", "pods", "") +
			event("ResponseComplete", "watch", "/api/v1/pods?watch=true", "pods", "") +
			event("ResponseComplete", "watch", "/api/v1/services?watch=true", "services", "") +
			event("ResponseComplete", "update", "/apis/coordination.k8s.io/v1/x", "leases", "") +
			`{"stage":"ResponseComplete","verb":"get","requestURI":"/apis/networking.istio.io/v1?timeout=32s"}` + "\n" +
			`{"stage":"ResponseComplete","verb":"create","objectRef":{"resource":"events","namespace":"redis-tls-system"}}` +
			"\n" +
			event("ResponseComplete", "patch", "/x", "serviceentries", "") +
			event("ResponseComplete", "patch", "/x", "serviceentries", "") +
			`{"stage":"ResponseComplete","verb":"get","objectRef":{"resource":"secrets"},` +
			`"requestReceivedTimestamp":"2026-01-01T00:00:01.250000Z","stageTimestamp":"2026-01-01T00:00:03Z"}` + "\n" +
			event("ResponseComplete", "create", "/x", "pods", "binding")))
	if err != nil {
		t.Fatal(err)
	}
	want := calls{
		"watch pods":                       1,
		"update leases":                    1,
		"create events of the election":    1,
		"get /apis/networking.istio.io/v1": 1,
		"patch serviceentries":             2,
		"get secrets":                      1,
		"create pods/binding":              1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if serving != 1750*time.Millisecond {
		t.Errorf("the API server took %s, want 1.75s", serving)
	}
	if diff := cmp.Diff(calls{
		"patch serviceentries": 2,
		"get secrets":          1,
		"create pods/binding":  1,
	}, got.work()); diff != "" {
		t.Errorf("work (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(calls{"patch serviceentries": 2, "create pods/binding": 1}, got.writes()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	text := "2 × patch serviceentries, 1 × create events of the election, 1 × create pods/binding, " +
		"1 × get /apis/networking.istio.io/v1, 1 × get secrets, 1 × update leases, 1 × watch pods"
	if got.String() != text {
		t.Errorf("String() = %q, want %q", got.String(), text)
	}
	if _, _, err := readCalls(strings.NewReader("{\n")); err == nil {
		t.Error("half an event is not an error")
	}
}

func TestCheckReportsCallsWritesAndMemory(t *testing.T) {
	quiet := figures{
		calls:   calls{"update leases": 9, "watch pods": 1},
		restart: restarted{calls: calls{"list pods": 1, "get secrets": 2}},
	}
	for name, tc := range map[string]struct {
		change func(*report)
		want   string
	}{
		"only upkeep":                    {func(*report) {}, ""},
		"a read in an admission":         {func(r *report) { r.many.calls = calls{"get secrets": 1} }, "1 × get secrets"},
		"a write in an admission of few": {func(r *report) { r.few.calls = calls{"patch pods": 3} }, "3 × patch pods"},
		"a restart that applies existing objects": {
			func(r *report) { r.many.restart.calls = calls{"patch serviceentries": 7} },
			"7 × patch serviceentries",
		},
		"pods of 4 KB": {func(r *report) {
			r.growth = []growth{{what: "pods", pieces: 2000, most: mostOfAPod, bytes: 2000 * 4096}}
		}, ""},
		"pods of more": {func(r *report) {
			r.growth = []growth{{what: "pods", pieces: 2000, most: mostOfAPod, bytes: 2000 * 4097}}
		}, "2000 pods cost the replica 4097 bytes each"},
		"too few pods for a limit": {
			func(r *report) { r.growth = []growth{{what: "pods", pieces: 20, most: mostOfAPod, bytes: 1 << 20}} },
			"",
		},
		"a restart that repeats its Events": {
			func(r *report) { r.few.restart.calls = calls{"create events": 2} },
			"2 × create events",
		},
	} {
		r := &report{few: quiet, many: quiet}
		tc.change(r)
		err := r.check()
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func TestQuantile(t *testing.T) {
	var hundred times
	for i := range 100 {
		hundred = append(hundred, time.Duration(100-i))
	}
	for _, tc := range []struct {
		all  times
		q    float64
		want time.Duration
	}{
		{nil, .99, 0},
		{times{7}, .5, 7},
		{times{7}, .99, 7},
		{hundred, .5, 50},
		{hundred, .99, 99},
		{hundred, 1, 100},
		{times{2, 1}, .5, 1},
	} {
		if got := tc.all.quantile(tc.q); got != tc.want {
			t.Errorf("quantile %g of %d is %d, want %d", tc.q, len(tc.all), got, tc.want)
		}
	}
}

func TestSumAndField(t *testing.T) {
	text := `# HELP depth of queues
depth{name="a"} 2
depth{name="b {x}"} 3.5
depth_other 9
depth 1
# HeapAlloc = 4096
` + "VmRSS:\t  12 kB\n"
	if got := sum(text, "depth"); got != 6.5 {
		t.Errorf("sum = %g", got)
	}
	for begins, want := range map[string]int64{"# HeapAlloc = ": 4096, "VmRSS:": 12} {
		if got, err := field(text, begins); err != nil || got != want {
			t.Errorf("field(%q) = %d, %v", begins, got, err)
		}
	}
	if _, err := field(text, "VmHWM:"); err == nil {
		t.Error("a missing line is not an error")
	}
}
