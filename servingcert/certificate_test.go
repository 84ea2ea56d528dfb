package servingcert

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"testing"
	"time"
)

// Unit: what is made, and what of a Secret is believed, without a cluster.

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

func issued(t *testing.T, from map[string][]byte, now time.Time) map[string][]byte {
	t.Helper()
	o := testOptions(t, at(now))
	data, err := o.issue(from, now)
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
	c, err := parse(data, dnsName, start)
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
		{"until a year has passed", dnsName, start.Add(364 * 24 * time.Hour), true},
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
	good, other := issued(t, nil, start), issued(t, nil, start)
	with := func(changes map[string][]byte) map[string][]byte {
		data := maps.Clone(good)
		maps.Copy(data, changes)
		return data
	}
	for _, tc := range []struct {
		name string
		data map[string][]byte
		host string
		at   time.Time
	}{
		{"an empty Secret", nil, dnsName, start},
		{"a certificate without its key", with(map[string][]byte{keyPriv: nil}), dnsName, start},
		{"the half of another pair", with(map[string][]byte{keyPriv: other[keyPriv]}), dnsName, start},
		{"a pair of another CA", with(map[string][]byte{keyCert: other[keyCert], keyPriv: other[keyPriv]}), dnsName, start},
		{"a CA key of another CA", with(map[string][]byte{keyCAKey: other[keyCAKey]}), dnsName, start},
		{"a CA that is no PEM", with(map[string][]byte{keyCA: []byte("x")}), dnsName, start},
		{"a CA key that is no PEM", with(map[string][]byte{keyCAKey: []byte("x")}), dnsName, start},
		{"another Service's certificate", good, "other.redis-tls.svc", start},
		{"an ended certificate", good, dnsName, start.Add(366 * 24 * time.Hour)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if c, err := parse(tc.data, tc.host, tc.at); err == nil {
				t.Errorf("believed, until %s", c.until)
			}
		})
	}
	if _, err := parse(good, dnsName, start); err != nil {
		t.Errorf("the good one is refused: %v", err)
	}
}

func TestIssueKeepsWhatStillHolds(t *testing.T) {
	first := issued(t, nil, start)
	leaf := issued(t, first, start.Add(300*24*time.Hour))
	if !bytes.Equal(leaf[keyCA], first[keyCA]) || !bytes.Equal(leaf[keyCAKey], first[keyCAKey]) {
		t.Error("renewing the leaf has changed a CA that holds for years")
	}
	if bytes.Equal(leaf[keyCert], first[keyCert]) {
		t.Error("the leaf was not renewed")
	}

	late := start.Add(DefaultCAValidity - 30*24*time.Hour)
	second := issued(t, leaf, late)
	if got := count(second[keyCA]); got != 2 {
		t.Fatalf("after the CA's renewal the bundle has %d certificates, want the new one and the one before", got)
	}
	if !bytes.HasSuffix(second[keyCA], first[keyCA]) {
		t.Error("the bundle has not the CA in use first and the one before after it")
	}
	if _, err := parse(second, dnsName, late); err != nil {
		t.Errorf("what was issued by the new CA is refused: %v", err)
	}

	third := issued(t, second, start.Add(2*DefaultCAValidity-40*24*time.Hour))
	if got := count(third[keyCA]); got != 2 {
		t.Errorf("the bundle has %d certificates, want an ended CA to be left out", got)
	}
}

func TestWhatIsNoCAIsNeverUsedAsOne(t *testing.T) {
	data := issued(t, nil, start)
	leaf := map[string][]byte{keyCA: data[keyCert], keyCAKey: data[keyPriv], keyCert: data[keyCert], keyPriv: data[keyPriv]}
	renewed := issued(t, leaf, start)
	if _, err := parse(renewed, dnsName, start); err != nil {
		t.Errorf("the leaf was taken for a CA: %v", err)
	}
	if got := count(renewed[keyCA]); got != 1 {
		t.Errorf("the bundle has %d certificates, want the new CA alone", got)
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
