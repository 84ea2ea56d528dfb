package servingcert

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/redis-tls/redis-tls/test/catalog"
)

// Unit: issued certificates, and the validation of Secrets, without a cluster.

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

const dnsName = "webhook.redis-tls.svc"

func testOptions(t *testing.T, now func() time.Time) Options {
	t.Helper()
	o := Options{Namespace: "redis-tls", Secret: "cert", Service: "webhook", Configuration: "00-redis-tls", Now: now}
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	return o
}

func at(now time.Time) func() time.Time { return func() time.Time { return now } }

func parse(t *testing.T, data map[string][]byte, now time.Time) (*certificate, error) {
	t.Helper()
	o := testOptions(t, at(now))
	return o.parse(data, now)
}

func issued(t *testing.T, from map[string][]byte, now time.Time) map[string][]byte {
	t.Helper()
	o := testOptions(t, at(now))
	data, err := o.issue(from, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestIssuedCertificateIsAcceptedByAClientWithTheBundle(t *testing.T) {
	data := issued(t, nil, start)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data[keyCA]) {
		t.Fatal("the bundle has no certificate")
	}
	c, err := parse(t, data, start)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		host string
		at   time.Time
		want bool
	}{
		{"by the Service's name", dnsName, start, true},
		{"by a client whose clock is behind by 59 minutes", dnsName, start.Add(-59 * time.Minute), true},
		{"within a year", dnsName, start.Add(364 * 24 * time.Hour), true},
		{"not after a year", dnsName, start.Add(366 * 24 * time.Hour), false},
		{"not under another Service's name", "other.redis-tls.svc", start, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := c.tls.Leaf.Verify(x509.VerifyOptions{
				DNSName: tc.host, Roots: pool, CurrentTime: tc.at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			})
			if got := err == nil; got != tc.want {
				t.Errorf("accepted: %t (%v), want %t", got, err, tc.want)
			}
		})
	}
	ca, err := parseCA(data)
	if err != nil {
		t.Fatal(err)
	}
	if want := start.Add(DefaultCAValidity); !ca.Cert.NotAfter.Equal(want) {
		t.Errorf("the CA ends at %s, want %s", ca.Cert.NotAfter, want)
	}
}

func TestParseRefuses(t *testing.T) {
	messages := catalog.Open(t)
	good, other := issued(t, nil, start), issued(t, nil, start)
	with := func(changes map[string][]byte) map[string][]byte {
		data := maps.Clone(good)
		maps.Copy(data, changes)
		return data
	}
	for _, tc := range []struct {
		name    string
		data    map[string][]byte
		service string
		at      time.Time
		says    string
	}{
		{"an empty Secret", nil, "webhook", start, "tls.crt: "},
		{"a certificate without its key", with(map[string][]byte{keyPriv: nil}), "webhook", start, "tls.key: "},
		{
			"a key of another certificate",
			with(map[string][]byte{keyPriv: other[keyPriv]}),
			"webhook",
			start,
			"tls.crt and tls.key: ",
		},
		{
			"a truncated certificate",
			with(map[string][]byte{keyCert: good[keyCert][:300]}),
			"webhook",
			start,
			"tls.crt and tls.key",
		},
		{
			"a pair of another CA",
			with(map[string][]byte{keyCert: other[keyCert], keyPriv: other[keyPriv]}),
			"webhook",
			start,
			"unknown authority",
		},
		{"a CA that is not PEM", with(map[string][]byte{keyCA: []byte("x")}), "webhook", start, "ca.crt: "},
		{"another Service's certificate", good, "other", start, "valid for webhook.redis-tls.svc, not other.redis-tls.svc"},
		{"an expired certificate", good, "webhook", start.Add(366 * 24 * time.Hour), "expired"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := testOptions(t, at(tc.at))
			o.Service = tc.service
			c, err := o.parse(tc.data, tc.at)
			if err == nil {
				t.Fatalf("accepted, until %s", c.until)
			}
			for _, text := range []string{"Secret redis-tls/cert", tc.says} {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%q does not contain %q", err, text)
				}
			}
			message, _, _ := strings.Cut(err.Error(), ": x509: ")
			message, _, _ = strings.Cut(message, ": tls: ")
			messages.Add(tc.name, message)
		})
	}
	if _, err := parse(t, good, start); err != nil {
		t.Errorf("the good one is refused: %v", err)
	}
}

func TestIssueKeepsValidParts(t *testing.T) {
	first := issued(t, nil, start)
	leaf := issued(t, first, start.Add(300*24*time.Hour))
	if !bytes.Equal(leaf[keyCA], first[keyCA]) || !bytes.Equal(leaf[keyCAKey], first[keyCAKey]) {
		t.Error("renewing the leaf changed a CA that is valid for years")
	}
	if bytes.Equal(leaf[keyCert], first[keyCert]) {
		t.Error("the leaf was not renewed")
	}

	late := start.Add(DefaultCAValidity - 30*24*time.Hour)
	second := issued(t, leaf, late)
	if got := count(second[keyCA]); got != 2 {
		t.Fatalf("after the CA's renewal the bundle has %d certificates, want the new one and the previous one", got)
	}
	if !bytes.HasSuffix(second[keyCA], first[keyCA]) {
		t.Error("the bundle must have the current CA first and then the previous one")
	}
	if _, err := parse(t, second, late); err != nil {
		t.Errorf("a certificate of the new CA is refused: %v", err)
	}

	third := issued(t, second, start.Add(2*DefaultCAValidity-40*24*time.Hour))
	if got := count(third[keyCA]); got != 2 {
		t.Errorf("the bundle has %d certificates, want the expired CA removed", got)
	}
}

// TestReplicaWhoseClockIsBehindAcceptsANewCertificate proves that such a replica does not create its own.
func TestReplicaWhoseClockIsBehindAcceptsANewCertificate(t *testing.T) {
	if _, err := parse(t, issued(t, nil, start), start.Add(-59*time.Minute)); err != nil {
		t.Error(err)
	}
}

func TestLeafIsNeverUsedAsCA(t *testing.T) {
	data := issued(t, nil, start)
	leaf := map[string][]byte{
		keyCA:    data[keyCert],
		keyCAKey: data[keyPriv],
		keyCert:  data[keyCert],
		keyPriv:  data[keyPriv],
	}
	renewed := issued(t, leaf, start)
	if _, err := parse(t, renewed, start); err != nil {
		t.Errorf("the leaf was used as a CA: %v", err)
	}
	if got := count(renewed[keyCA]); got != 1 {
		t.Errorf("the bundle has %d certificates, want only the new CA", got)
	}
}

func count(bundle []byte) (n int) {
	for {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			return n
		}
		n++
	}
}
