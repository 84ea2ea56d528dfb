package patches

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// FuzzUserAnnotations holds for any annotations: no panic. What Istio can read keeps every entry and gets the
// webhook's, and what it cannot read is refused. A second run changes nothing.
func FuzzUserAnnotations(f *testing.F) {
	o := newOrigination()
	for _, seed := range []struct{ volume, mount string }{
		{}, {
			volume: "null",
			mount:  "{}",
		}, {
			volume: "[]",
			mount:  " [ ] ",
		}, {
			volume: `{"a":{"emptyDir":{}}}`,
			mount:  `[{"name":"a","mountPath":"/a","readonly":true}]`,
		},
		{
			volume: `{"a":1,"a":2,"":{"":[]}}`,
			mount:  `[[],{},"",1e3,null,{"name":7}]`,
		}, {
			volume: "{",
			mount:  "]",
		}, {
			volume: `{"a":1e999}`,
			mount:  `"x"`,
		}, {
			volume: `7`,
			mount:  `true`,
		},
		{
			volume: `{"` + o.VolumeName() + `":{}}`,
			mount:  `[{"mountPath":"/etc"}]`,
		}, {
			volume: "\ufeff{}",
			mount:  "{}\x00",
		}, {
			volume: strings.Repeat("[", 20000),
			mount:  `{"a":` + strings.Repeat("[", 9990),
		},
		{
			volume: `{"` + o.VolumeName() + `":{"secret":{"secretName":"redis-ca","items":[{"key":"ca.crt","path":"ca.crt"}]}}}`,
			mount:  `{"a":{"MOUNTPATH":"/etc/redis-tls"}}`,
		},
		{
			volume: "{\"\xff\":{}}",
			mount:  `{"\ud800":{"name":"\ud800"}}`,
		}, {
			volume: `{"a":12345678901234567890.5}`,
			mount:  "[1,\n2 ]\n",
		},
	} {
		f.Add(seed.volume, seed.mount)
	}
	f.Fuzz(func(t *testing.T, volume, mount string) {
		pod := newPod(annotated(istioUserVolume, volume), annotated(istioUserMount, mount))
		ops, _, problems := forPod(pod, one(), Options{})
		unreadable := !readable(volume) || !readable(mount)
		if len(problems) > 0 {
			if len(ops) > 0 {
				t.Fatalf("operations %v with problems %q", ops, texts(problems))
			}
			for _, p := range problems {
				if p.Reason == origination.ReasonInvalidAnnotation && !unreadable {
					t.Fatalf("Istio reads %q and %q, yet: %s", volume, mount, p.Err)
				}
			}
			return
		}
		if unreadable {
			t.Fatalf("Istio cannot read %q or %q, yet it is not refused", volume, mount)
		}
		// The operations are applied by hand: an annotation that is no UTF-8 does not survive JSON.
		for _, op := range ops {
			if key, found := strings.CutPrefix(op.Path, "/metadata/annotations/"); found {
				pod.Annotations[strings.ReplaceAll(key, "~1", "/")] = op.Value.(string)
			}
		}
		for key, before := range map[string]string{istioUserVolume: volume, istioUserMount: mount} {
			kept, added := entriesOf(t, before), entriesOf(t, pod.Annotations[key])
			if len(added) < len(kept) || len(added) > len(kept)+2 { // a key and a value
				t.Fatalf("%s: %d entries became %d: %s", key, len(kept), len(added), pod.Annotations[key])
			}
			if diff := cmp.Diff(strings.Join(kept, "\n"), strings.Join(added[:len(kept)], "\n")); diff != "" {
				t.Fatalf("%s: a user's entry changed:\n%s", key, diff)
			}
			if !strings.Contains(pod.Annotations[key], `"`+o.VolumeName()+`"`) && !strings.Contains(before, `\u`) {
				t.Fatalf("%s: the webhook's entry is missing: %s", key, pod.Annotations[key])
			}
		}
		again, _, problems := forPod(pod, one(), Options{})
		for _, op := range again {
			if strings.Contains(op.Path, "userVolume") {
				t.Fatalf("a second run writes %s again: %v", op.Path, op.Value)
			}
		}
		if len(problems) > 0 {
			t.Fatalf("a second run has problems: %q", texts(problems))
		}
	})
}

// readable reports whether Istio's fromJSON and the template's range accept the value. Empty values and null are
// readable.
func readable(value string) bool {
	if strings.Trim(value, " \t\r\n") == "" {
		return true
	}
	var parsed any
	if json.Unmarshal([]byte(value), &parsed) != nil {
		return false
	}
	switch parsed.(type) {
	case nil, []any, map[string]any:
		return true
	}
	return false
}

// entriesOf lists keys and values, duplicates too, numbers digit by digit. It reads tokens, and shares no code with the
// merge.
func entriesOf(t *testing.T, value string) (entries []string) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(value))
	d.UseNumber()
	var entry strings.Builder
	for depth := 0; ; {
		token, err := d.Token()
		if err != nil {
			return entries
		}
		fmt.Fprintf(&entry, "%T %v;", token, token)
		delim, isDelim := token.(json.Delim)
		switch {
		case isDelim && (delim == '[' || delim == '{'):
			if depth++; depth == 1 {
				entry.Reset()
			}
			continue
		case isDelim:
			depth--
		}
		if depth == 1 { // an element of a list, or a key or a value of the map
			entries = append(entries, entry.String())
			entry.Reset()
		}
	}
}

// FuzzPod holds for any annotations of redis-tls and any aliases: no panic, and a second run does nothing.
func FuzzPod(f *testing.F) {
	request := origination.Status{Version: origination.StatusVersion, Request: map[string]string{"redis-tls/host": host}}
	f.Add("", "", "", "", "")
	f.Add(request.String(), host+"=240.241.7.31", "2026-01-02T03:04:05Z", "240.241.7.31", "true")
	f.Add(`{"version":"v1","request":null}`, "=,", "9999-12-31T23:59:59+23:59", "::ffff:1.2.3.4", "")
	f.Add(`{"version":"v0"}`, host+"=::1%eth0", "0", "1.2.3.4%x", "\xff")
	f.Fuzz(func(t *testing.T, status, vips, firstUse, ip, text string) {
		for _, s := range []string{status, vips, firstUse, ip, text} {
			if !utf8.ValidString(s) { // it does not survive JSON
				return
			}
		}
		pod := newPod(native, annotated(origination.AnnotationStatus, status), annotated(origination.AnnotationVIPs, vips),
			annotated(origination.AnnotationFirstUse, firstUse), label(origination.LabelKeyPrefix+"x", text), alias(ip, host))
		originations := append(one(), newOrigination(addressed("10.0.0.0/8")))
		opts := Options{Status: request, VIPRanges: drawnFrom, Gate: true}
		if _, _, problems := forPod(pod, originations, opts); len(problems) == 0 {
			patched(t, pod, originations, opts)
		}
		raw, err := json.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		stripped(t, raw)
	})
}
