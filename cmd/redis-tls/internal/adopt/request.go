package adopt

import (
	"fmt"
	"slices"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/preview"
)

// request is an origination of a workload, as annotations.
type request struct {
	settings settings
	destination
	rule    object[*networkingv1.DestinationRule]
	entries []preview.Object
	sources []*source
	safer   []string
	check   []string
}

// merged joins the requests of one rule with the same settings: further hosts are nodes, and addresses are listed.
func merged(requests []*request) (all []*request) {
	for _, r := range requests {
		i := slices.IndexFunc(all, func(other *request) bool { return other.joins(r) })
		if i < 0 {
			all = append(all, r)
			continue
		}
		all[i].join(r)
	}
	return all
}

// joins reports whether another request differs from this one only in its host or in its addresses.
func (r *request) joins(other *request) bool {
	if keyOf(r.rule.Object) != keyOf(other.rule.Object) || (len(r.hosts) == 0) != (len(other.hosts) == 0) ||
		len(r.hosts) > 0 && len(r.addresses)+len(other.addresses) > 0 || r.settings["mode"] == "istio-mutual" {
		return false
	}
	plain := func(s settings) string {
		rest := settings{}
		for key, value := range s {
			if !slices.Contains([]string{"host", "nodes", "addresses", "sni", "subject-alt-names"}, key) {
				rest[key] = value
			}
		}
		return fmt.Sprint(rest)
	}
	return plain(r.settings) == plain(other.settings)
}

func (r *request) join(other *request) {
	tls := r.rule.typed.Spec.GetTrafficPolicy()
	r.hosts = append(r.hosts, other.hosts...)
	r.addresses = append(r.addresses, other.addresses...)
	r.entries = append(r.entries, other.entries...)
	for ip, names := range other.aliases {
		if r.aliases == nil {
			r.aliases = map[string][]string{}
		}
		r.aliases[ip] = names
	}
	for _, line := range other.safer {
		if !slices.Contains(r.safer, line) {
			r.safer = append(r.safer, line)
		}
	}
	for _, line := range other.check {
		if !slices.Contains(r.check, line) {
			r.check = append(r.check, line)
		}
	}
	if len(r.hosts) > 1 {
		r.settings.set("nodes", strings.Join(r.hosts[1:], ","))
	}
	r.settings.set("addresses", strings.Join(r.addresses, ","))
	names := tls.GetTls().GetSubjectAltNames()
	for _, own := range tls.GetPortLevelSettings() {
		names = append(slices.Clone(names), own.GetTls().GetSubjectAltNames()...)
	}
	if len(r.addresses) == 0 && sameNames(slices.Compact(names), r.hosts) {
		delete(r.settings, "subject-alt-names")
	}
}
