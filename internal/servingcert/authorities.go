package servingcert

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"
)

// decode returns the certificates of a PEM bundle; what is none is left out.
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

// merged returns the certificates of all lists, in their order, each once.
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

// unended returns those that have not ended at that time. Their beginning is left to the API servers' clocks.
func unended(certificates []*x509.Certificate, now time.Time) []*x509.Certificate {
	return slices.DeleteFunc(merged(certificates), func(c *x509.Certificate) bool { return !now.Before(c.NotAfter) })
}

// carried returns the CAs that any entry of the configuration trusts, and of those the ones that every entry does.
func carried(found *configuration) (anywhere, everywhere []*x509.Certificate) {
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

// sightings remember the CAs that the configuration has carried.
type sightings []sighting

type sighting struct {
	ca *x509.Certificate
	// since is when every entry was first seen with it, without a break; zero when they have it no more.
	since time.Time
}

// observe returns the sightings after a look at the configuration: newest first, and none that has ended.
func (s sightings) observe(found *configuration, now time.Time) sightings {
	_, everywhere := carried(found)
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
	return after[:min(len(after), mostOthers)]
}

// since returns since when the configuration carries the CA, and whether it does.
func (s sightings) since(ca *x509.Certificate) (time.Time, bool) {
	for _, one := range s {
		if one.ca.Equal(ca) && !one.since.IsZero() {
			return one.since, true
		}
	}
	return time.Time{}, false
}

// trust returns since when the API server has been told to accept the certificate, and whether it has.
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
	for _, one := range s {
		cas = append(cas, one.ca)
	}
	return cas
}
