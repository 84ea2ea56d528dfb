package servingcert

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"
)

// decode returns the certificates of a PEM bundle, and ignores other blocks.
func decode(bundle []byte) (certificates []*x509.Certificate) {
	for {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			return certificates
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			certificates = append(certificates, c)
		}
	}
}

func encode(certificates []*x509.Certificate) (bundle []byte) {
	for _, c := range certificates {
		bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return bundle
}

func contains(certificates []*x509.Certificate, c *x509.Certificate) bool {
	return slices.ContainsFunc(certificates, c.Equal)
}

// merged returns the certificates of all lists in order, without duplicates.
func merged(lists ...[]*x509.Certificate) (all []*x509.Certificate) {
	for _, list := range lists {
		for _, c := range list {
			if !contains(all, c) {
				all = append(all, c)
			}
		}
	}
	return all
}

// unexpired returns the certificates that are not expired at that time. It ignores NotBefore, which the API servers
// check.
func unexpired(certificates []*x509.Certificate, now time.Time) []*x509.Certificate {
	return slices.DeleteFunc(merged(certificates), func(c *x509.Certificate) bool { return !now.Before(c.NotAfter) })
}

// trustedBy returns the CAs that any entry of the configuration trusts, and those that every entry trusts.
func trustedBy(found *configuration) (anywhere, everywhere []*x509.Certificate) {
	for i, w := range found.Webhooks {
		cas := decode(w.ClientConfig.CABundle)
		anywhere = merged(anywhere, cas)
		if i == 0 {
			everywhere = merged(cas)
			continue
		}
		everywhere = slices.DeleteFunc(everywhere, func(c *x509.Certificate) bool { return !contains(cas, c) })
	}
	return anywhere, everywhere
}

// sightings are the CAs that the configuration contains or contained.
type sightings []sighting

type sighting struct {
	ca *x509.Certificate
	// since is the time since which every entry contains the CA. It is zero if the CA was removed.
	since time.Time
}

// observe returns the sightings after reading the configuration, newest first and without expired CAs.
func (s sightings) observe(found *configuration, now time.Time) sightings {
	_, everywhere := trustedBy(found)
	var after sightings
	for _, ca := range everywhere {
		since, seen := s.since(ca)
		if !seen {
			since = now
		}
		after = append(after, sighting{ca, since})
	}
	for _, before := range s {
		if !contains(everywhere, before.ca) && now.Before(before.ca.NotAfter) {
			after = append(after, sighting{ca: before.ca})
		}
	}
	return after[:min(len(after), maxOtherCAs)]
}

// since returns the time since which the configuration contains the CA, and whether it does.
func (s sightings) since(ca *x509.Certificate) (time.Time, bool) {
	for _, sighting := range s {
		if sighting.ca.Equal(ca) && !sighting.since.IsZero() {
			return sighting.since, true
		}
	}
	return time.Time{}, false
}

// trust returns the time since which the configuration trusts the certificate, and whether it does.
func (s sightings) trust(c *certificate) (since time.Time, trusted bool) {
	if c == nil {
		return time.Time{}, false
	}
	for _, root := range c.roots {
		if at, ok := s.since(root); ok && (!trusted || at.Before(since)) {
			since, trusted = at, true
		}
	}
	return since, trusted
}

func (s sightings) authorities() (cas []*x509.Certificate) {
	for _, sighting := range s {
		cas = append(cas, sighting.ca)
	}
	return cas
}
