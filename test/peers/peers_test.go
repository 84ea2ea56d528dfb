package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// answerOf is an answer with a JSON patch.
func answerOf(patch string) []byte {
	return fmt.Appendf(nil, `{"response":{"uid":"u","allowed":true,"patchType":"JSONPatch","patch":%q}}`,
		base64.StdEncoding.EncodeToString([]byte(patch)))
}

const (
	volume   = `{"redis-tls-a":{"secret":{"secretName":"redis-ca"}}}`
	mount    = `{"redis-tls-a":{"mountPath":"/etc/redis-tls/a"}}`
	injected = `{"metadata":{"annotations":{"sidecar.istio.io/userVolume":` + "%q" +
		`,"sidecar.istio.io/userVolumeMount":` + "%q" + `}},"spec":{"containers":[{"name":"app"}]}}`
)

func TestAnswersThatDoNotInjectTheSameDoNotCount(t *testing.T) {
	pod := fmt.Appendf(nil, injected, volume, mount)
	proxy := func(source, path string) string {
		return `[{"op":"add","path":"/spec/volumes","value":[{"name":"redis-tls-a",` + source + `}]},` +
			`{"op":"add","path":"/spec/initContainers","value":[{"name":"istio-proxy","volumeMounts":` +
			`[{"name":"redis-tls-a","mountPath":"` + path + `"}]}]}]`
	}
	const secretSource, path = `"secret":{"secretName":"redis-ca"}`, "/etc/redis-tls/a"
	label := `{"op":"add","path":"/metadata/labels","value":{"a":"b"}}`
	want, err := patched(pod, answerOf("["+label+"]"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		check  check
		answer []byte
		err    string
	}{
		{
			name:  "the same changes in another patch",
			check: same(want),
			answer: answerOf(`[{"op":"add","path":"/metadata/labels","value":{}},` +
				`{"op":"add","path":"/metadata/labels/a","value":"b"}]`),
		},
		{
			name:   "another label",
			check:  same(want),
			answer: answerOf(strings.ReplaceAll("["+label+"]", `"b"`, `"c"`)),
			err:    "the pod differs",
		},
		{
			name:   "no patch",
			check:  same(want),
			answer: []byte(`{"response":{"uid":"u","allowed":true}}`),
			err:    "does not change the pod",
		},
		{
			name:   "a refusal",
			check:  same(want),
			answer: []byte(`{"response":{"uid":"u","allowed":false}}`),
			err:    "does not change the pod",
		},
		{
			name:   "a sidecar with the volume and its mount",
			check:  sidecar(pod),
			answer: answerOf(proxy(secretSource, path)),
		},
		{
			name:   "a sidecar with another Secret",
			check:  sidecar(pod),
			answer: answerOf(proxy(`"secret":{"secretName":"other"}`, path)),
			err:    "the volumes differ",
		},
		{
			name:   "a sidecar with another mount",
			check:  sidecar(pod),
			answer: answerOf(proxy(secretSource, "/tmp")),
			err:    "the sidecar mounts",
		},
		{
			name:   "no sidecar",
			check:  sidecar(pod),
			answer: answerOf("[" + label + "]"),
			err:    "the volumes differ",
		},
		{
			name:   "a sidecar for a pod that requests no volumes",
			check:  sidecar(fmt.Appendf(nil, injected, "{}", "{}")),
			answer: answerOf(proxy(secretSource, path)),
			err:    "the pod requests the volumes",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := patched(pod, tc.answer)
			if err == nil {
				err = tc.check(got)
			}
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("got %v, want an error with %q", err, tc.err)
			}
		})
	}
}

func TestObjectsOfAnotherNamespaceAreComparedByNamespace(t *testing.T) {
	object := func(namespace, sni string) []map[string]any {
		return []map[string]any{{
			"kind":     "DestinationRule",
			"metadata": map[string]any{"name": "redis-" + namespace},
			"spec":     map[string]any{"sni": sni, "exportTo": []any{namespace}},
		}}
	}
	if err := sameSpecs(object("sample-0", "a"), object("cel-1", "a"), "sample-0", "cel-1"); err != nil {
		t.Error(err)
	}
	if err := sameSpecs(object("sample-0", "a"), object("cel-1", "b"), "sample-0", "cel-1"); err == nil {
		t.Error("another spec is taken for equal")
	}
	if err := sameSpecs(object("sample-0", "a"), nil, "sample-0", "cel-1"); err == nil {
		t.Error("no object is taken for equal")
	}
}

func TestLiteralIsCEL(t *testing.T) {
	got := literal(map[string]any{"b": []any{"x", 1.5, true, nil}, "a": `say "x"`})
	want := `{"a": dyn("say \"x\""), "b": dyn([dyn("x"), dyn(1.5), dyn(true), dyn(null)])}`
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestProcessorTimeIsUserAndSystemTime(t *testing.T) {
	got, err := parseStat("12 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 9 0 1 2 3")
	if err != nil || got != 1750*time.Millisecond {
		t.Errorf("got %s, %v, want 1.75 s", got, err)
	}
	if _, err := parseStat("12 (a) S 1 2"); err == nil {
		t.Error("a short line is accepted")
	}
}

func TestReportHasMediansOfTheRatiosOfEachRound(t *testing.T) {
	round := func(answers int, processor time.Duration) sample {
		return sample{answers: answers, elapsed: 2 * time.Second, processor: processor}
	}
	var out bytes.Buffer
	printReviews(&out, []measured{
		{"redis-tls", []sample{round(2000, 200*time.Millisecond), round(1000, 200*time.Millisecond)}},
		{"other", []sample{round(200, 200*time.Millisecond), round(200, 160*time.Millisecond)}},
	})
	seconds := func(all ...int) (took []time.Duration) {
		for _, s := range all {
			took = append(took, time.Duration(s)*time.Second)
		}
		return took
	}
	printFirstUses(&out, 3, []used{
		{"redis-tls", [][]time.Duration{seconds(1, 2, 3), seconds(2, 2, 2)}},
		{"other", [][]time.Duration{seconds(9, 4, 2), seconds(2, 12, 4)}},
	})
	want := `| review of a pod | processor time | ratio | reviews a second | ratio |
| --- | --- | --- | --- | --- |
| redis-tls | 150 µs | 1.0 (1.0 to 1.0) | 750 | 1.0 (1.0 to 1.0) |
| other | 900 µs | 7.0 (4.0 to 10.0) | 100 | 7.5 (5.0 to 10.0) |

| first use, 3 namespaces at once | p50 | ratio | p99 | ratio |
| --- | --- | --- | --- | --- |
| redis-tls | 2.00 s | 1.0 (1.0 to 1.0) | 2.50 s | 1.0 (1.0 to 1.0) |
| other | 4.00 s | 2.0 (2.0 to 2.0) | 10.50 s | 4.5 (3.0 to 6.0) |

`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
