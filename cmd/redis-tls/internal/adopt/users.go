package adopt

import (
	"fmt"
	"slices"
	"strings"

	networkingapi "istio.io/api/networking/v1alpha3"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
//	rule             | certain                                         | undecided
//	with a selector  | those that it selects                           | none
//	with a file      | those that have the file and name a host        | those that have it and name no host of any rule
//	with a file      | all that have it, if it is the only such rule   | none
//	                 | and none of them names a host                   |
//	with neither     | those that name a host                          | those with configuration in unreadable Secrets;
//	                 |                                                 | all if none names a host
//
// If the user chose workloads, these decide: the undecided ones among them use the rule, and the others do not. A
// chosen workload does not get rules for which another one is certain. Workloads of other namespaces never change.
func (f *finder) usersOf(rule object[*networkingv1.DestinationRule], hosts []string) users {
	var reached []*template
	for _, t := range f.templates {
		if t.meshed() && f.reaches(rule.typed, t, hosts) && selects(rule.typed, t) {
			reached = append(reached, t)
		}
	}
	u := f.evidence(rule.typed, reached, hosts)
	if len(f.chosen) > 0 {
		chosen := only(append(slices.Clone(u.certain), u.undecided...), f.isChosen)
		if len(u.certain) > 0 {
			chosen = only(u.certain, f.isChosen)
		}
		u.undecided = only(u.certain, func(t *template) bool { return !f.isChosen(t) })
		u.certain, u.reason = chosen, "--workload does not name it"
	}
	isElsewhere := func(t *template) bool { return f.namespace != "" && t.Namespace != f.namespace }
	if elsewhere := only(u.certain, isElsewhere); len(elsewhere) > 0 {
		u.certain = only(u.certain, func(t *template) bool { return !isElsewhere(t) })
		u.undecided = append(u.undecided, elsewhere...)
		u.reason = "it is in another namespace"
	}
	for _, t := range reached {
		if rule.typed.Spec.WorkloadSelector == nil && !isElsewhere(t) &&
			!slices.Contains(u.certain, t) && !slices.Contains(u.undecided, t) {
			u.neighbours = append(u.neighbours, t)
		}
	}
	return u
}

// reaches reports whether an entry or a rule for the hosts applies to the workload: those of its own namespace come
// first (PushContext.destinationRule, pilot/pkg/model/push_context.go).
func (f *finder) reaches(o metav1.Object, t *template, hosts []string) bool {
	if o.GetNamespace() == t.Namespace {
		return true
	}
	if t.isAnnotated(hosts) {
		return false
	}
	return exported(o, t.Namespace) && !slices.ContainsFunc(f.rules, func(own object[*networkingv1.DestinationRule]) bool {
		return own.Namespace == t.Namespace && slices.ContainsFunc(hosts, func(h string) bool {
			return matchesHost(own.typed.Spec.Host, h)
		})
	})
}

// evidence returns the users by what the input says.
func (f *finder) evidence(rule *networkingv1.DestinationRule, reached []*template, hosts []string) (u users) {
	names := func(t *template) bool { return t.dials(hosts) }
	files := filesOf(rule)
	switch mounting := only(reached, func(t *template) bool { return t.hasFiles(files) }); {
	case rule.Spec.WorkloadSelector != nil:
		u.certain, u.reason = reached, "spec.workloadSelector selects no workload of the input"
	case len(files) > 0:
		u.certain = only(mounting, names)
		u.undecided = only(mounting, func(t *template) bool { return !names(t) && !t.dials(f.hostsReading(files)) })
		if len(u.certain) == 0 && f.readers(files) == 1 {
			u.certain, u.undecided = mounting, nil
		}
		u.reason = "no sidecar of the input has the file " + strings.Join(files, " or ")
		if len(u.undecided) > 0 {
			u.reason = fmt.Sprintf("nothing in the configuration of %s names %s",
				listOf(u.undecided), strings.Join(hosts, " or "))
		}
	default:
		u.certain = only(reached, names)
		u.undecided = only(reached, func(t *template) bool { return !names(t) && t.opaque })
		u.reason = "its configuration is in Secrets"
		if len(u.certain) == 0 {
			u.undecided, u.reason = reached, "no workload names "+strings.Join(hosts, " or ")
		}
	}
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

// isAnnotated reports whether the pod requests TLS to one of the hosts by annotations already.
func (t *template) isAnnotated(hosts []string) bool {
	for key, value := range t.pod.Annotations {
		for _, name := range []string{"host", "nodes", "addresses"} {
			if strings.HasSuffix(key, "redis-tls/"+name) && slices.ContainsFunc(strings.Split(value, ","), func(v string) bool {
				return slices.Contains(hosts, strings.TrimSpace(v))
			}) {
				return true
			}
		}
	}
	return false
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
