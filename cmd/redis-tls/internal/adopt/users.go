package adopt

import (
	"fmt"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
)

// users are the workloads that a rule is for.
type users struct {
	certain []*template
	// undecided may use the rule as well. The rule and its entry then stay.
	undecided []*template
	// neighbours get an unselected rule and do not use it.
	neighbours []*template
	reason     string // why the others are undecided
}

// usersOf returns the workloads that use a rule for the named hosts and addresses.
//
//	rule             | certain                                        | undecided
//	with a selector  | those that it selects                          | none
//	with a file      | those that have the file and name a host       | those that have it and name no host of any rule
//	with a file      | all that have it, if none of them names a host | none, if no other rule reads the file
//	with neither     | those that name a host                         | all of the namespace, if none names a host
//
// A workload that the user chose is certain, and no other one is then.
func (f *finder) usersOf(rule object[*networkingv1.DestinationRule], hosts []string) users {
	var reached, neighbours []*template
	for _, t := range f.templates {
		if t.meshed() && exported(rule.typed, t.Namespace) && selects(rule.typed, t) {
			reached = append(reached, t)
		}
	}
	names := func(t *template) bool { return t.dials(hosts) }
	var u users
	files := filesOf(rule.typed)
	switch mounting := only(reached, func(t *template) bool { return t.hasFiles(files) }); {
	case rule.typed.Spec.WorkloadSelector != nil:
		u.certain = reached
		u.reason = "spec.workloadSelector selects no workload of the input"
	case len(files) > 0:
		u.certain = only(mounting, names)
		rest := only(mounting, func(t *template) bool { return !names(t) && !t.dials(f.hostsReading(files)) })
		if len(u.certain) == 0 && f.readers(files) == 1 {
			u.certain, rest = mounting, nil
		}
		u.undecided = rest
		u.reason = fmt.Sprintf("no sidecar of the input has the file %s", strings.Join(files, " or "))
		if len(rest) > 0 {
			u.reason = fmt.Sprintf("nothing in the configuration of %s names %s", listOf(rest), strings.Join(hosts, " or "))
		}
	default:
		if u.certain = only(reached, names); len(u.certain) == 0 {
			u.undecided = reached
			u.reason = fmt.Sprintf("no workload names %s", strings.Join(hosts, " or "))
		}
	}
	if len(f.chosen) > 0 {
		isChosen := func(t *template) bool { return f.isChosen(t) }
		others := only(append(slices.Clone(u.certain), u.undecided...), func(t *template) bool { return !isChosen(t) })
		u.certain = only(reached, isChosen)
		u.undecided = others
		u.reason = "--workload does not name it"
	}
	for _, t := range reached {
		if rule.typed.Spec.WorkloadSelector == nil && !slices.Contains(u.certain, t) && !slices.Contains(u.undecided, t) {
			neighbours = append(neighbours, t)
		}
	}
	u.neighbours = neighbours
	return u
}

// dials reports whether the app's configuration or a host alias has one of the hosts.
func (t *template) dials(hosts []string) bool {
	return slices.ContainsFunc(hosts, func(h string) bool {
		if suffix, wildcard := strings.CutPrefix(h, "*"); wildcard {
			return len(t.namesBelow(suffix)) > 0
		}
		return t.mentions(h) || slices.ContainsFunc(t.pod.Spec.HostAliases, func(a hostAlias) bool {
			return a.IP == h || slices.Contains(a.Hostnames, h)
		})
	})
}

// selects reports whether a rule's selector, if any, selects the pod.
func selects(rule *networkingv1.DestinationRule, t *template) bool {
	for key, value := range rule.Spec.GetWorkloadSelector().GetMatchLabels() {
		if t.pod.Labels[key] != value {
			return false
		}
	}
	return true
}

// filesOf returns the files of the sidecar that a rule reads, except system roots.
func filesOf(rule *networkingv1.DestinationRule) (files []string) {
	add := func(tls *networkingapi.ClientTLSSettings) {
		for _, file := range []string{tls.GetCaCertificates(), tls.GetClientCertificate()} {
			if originates(tls) && !slices.Contains(systemRoots, file) && !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
	}
	add(rule.Spec.GetTrafficPolicy().GetTls())
	for _, own := range rule.Spec.GetTrafficPolicy().GetPortLevelSettings() {
		add(own.GetTls())
	}
	return files
}

func (t *template) hasFiles(files []string) bool {
	return !slices.ContainsFunc(files, func(file string) bool {
		s, err := t.source(file)
		return s == nil && err == nil
	})
}

// readers returns the number of rules without a selector that read one of the files.
func (f *finder) readers(files []string) (n int) {
	for _, r := range f.rules {
		if r.typed.Spec.WorkloadSelector == nil && slices.ContainsFunc(filesOf(r.typed), func(file string) bool {
			return slices.Contains(files, file)
		}) {
			n++
		}
	}
	return n
}

// hostsReading returns the hosts of the entries whose rules read one of the files.
func (f *finder) hostsReading(files []string) (hosts []string) {
	for _, r := range f.rules {
		if !slices.ContainsFunc(filesOf(r.typed), func(file string) bool { return slices.Contains(files, file) }) {
			continue
		}
		for _, e := range f.entriesOf(r) {
			hosts = append(hosts, hostsOf(e.typed)...)
		}
	}
	return hosts
}

func only(all []*template, keep func(*template) bool) (kept []*template) {
	for _, t := range all {
		if keep(t) {
			kept = append(kept, t)
		}
	}
	return kept
}

func listOf(templates []*template) string {
	var names []string
	for _, t := range templates {
		names = append(names, name(t.Object))
	}
	return strings.Join(names, ", ")
}
