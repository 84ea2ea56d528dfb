package adopt

import (
	"fmt"
	"slices"
	"strings"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/preview"
)

type hostAlias = corev1.HostAlias

// finder collects the requests of the workloads, and what keeps the hand-written objects.
type finder struct {
	input
	chosen []string // "Kind/name", in lower case
	// namespace is the only one whose workloads change, or empty.
	namespace string
	refused   map[string]string // by key of the template
	// mentioned are the templates that would have requests.
	mentioned map[string]bool
	secrets   map[string]bool // namespace/name

	requests map[*template][]*request
	uses     map[string]*use // of an object
	order    []string        // the keys of uses
	left     []Left
}

// use is what keeps a hand-written object, or lets it go.
type use struct {
	preview.Object
	adopted  bool
	blockers []string
}

// find fills the finder.
func (f *finder) find() {
	f.requests, f.uses, f.mentioned = map[*template][]*request{}, map[string]*use{}, map[string]bool{}
	for _, rule := range f.rules {
		if !originatesAnywhere(rule.typed) || f.namespace != "" && rule.Namespace != f.namespace {
			continue
		}
		f.useOf(rule.Object)
		if len(rule.typed.Spec.Subsets) > 0 {
			f.keep("spec.subsets: have no annotation", rule.Object)
			continue
		}
		entries := f.entriesOf(rule)
		for _, e := range entries {
			if f.useOf(e.Object); e.Namespace != rule.Namespace {
				f.keep("it is of another namespace than the rule, and may be used there", e.Object)
			}
			f.entry(rule, e)
		}
		if len(entries) == 0 {
			f.service(rule)
		}
	}
	for t := range f.requests {
		f.requests[t] = merged(f.requests[t])
	}
}

// entry adds the requests of the workloads for which the rule originates TLS to the entry.
func (f *finder) entry(rule object[*networkingv1.DestinationRule], e object[*networkingv1.ServiceEntry]) {
	hosts := hostsOf(e.typed)
	host := e.typed.Spec.Hosts[0]
	routes, redirects, reason := f.redirectsOf(host, rule.Namespace)
	if reason != "" {
		f.keep(reason, rule.Object, e.Object)
		return
	}
	involved := []preview.Object{rule.Object, e.Object}
	for _, r := range routes {
		involved = append(involved, r.Object)
		f.useOf(r.Object)
	}
	ports, plain, reason := portsOf(e.typed, rule.typed, redirects)
	if reason == "" && len(ports) == 0 {
		reason = "spec.ports: the rule originates TLS at none of them"
	}
	for _, p := range ports {
		if len(p.policy.unsupported) > 0 && reason == "" {
			reason = strings.Join(p.policy.unsupported, ", ") + ": has no annotation"
		}
	}
	if reason != "" {
		f.keep(reason, involved...)
		return
	}
	if len(plain) > 0 && ports[0].protocol != "http" {
		f.keep(fmt.Sprintf("its ports %v have no TLS, and apps may use them", plain), e.Object)
	}
	u := f.usersOf(rule, hosts)
	f.undecided(u, involved)
	if others := only(f.templates, func(t *template) bool {
		return t.meshed() && f.reaches(e.typed, t, hosts) && t.dials(hosts) && !t.isAnnotated(hosts) &&
			!slices.Contains(u.certain, t) && !slices.Contains(u.undecided, t)
	}); len(others) > 0 {
		f.keep(listOf(others)+" dials it too, and the rule is not for it", e.Object)
	}
	for _, t := range u.certain {
		destination, reason := dialled(t, e.typed)
		if reason != "" {
			f.keep(reason, involved...)
			continue
		}
		for _, group := range byTarget(ports) {
			r := &request{destination: destination, rule: rule, entries: slices.Clone(involved[1:])}
			f.add(t, r, group, u, e.typed, involved)
		}
	}
}

// service adds the requests of the workloads for a rule whose host is a Service.
func (f *finder) service(rule object[*networkingv1.DestinationRule]) {
	host := rule.typed.Spec.Host
	service := f.serviceOf(host, rule.Namespace)
	if service == nil && !strings.Contains(host, ".svc") {
		f.keep("spec.host: "+host+": no ServiceEntry and no Service of the input has this host; add its manifest",
			rule.Object)
		return
	}
	var ports []dialledPort
	numbers := []uint32{}
	for _, own := range rule.typed.Spec.GetTrafficPolicy().GetPortLevelSettings() {
		numbers = append(numbers, own.GetPort().GetNumber())
	}
	if service != nil && len(numbers) == 0 {
		for _, p := range service.Spec.Ports {
			numbers = append(numbers, uint32(p.Port))
		}
	}
	for _, n := range numbers {
		if p := policyAt(rule.typed, n); originates(p.tls) {
			ports = append(ports, dialledPort{n, n, "", p})
		}
	}
	if len(ports) == 0 {
		f.keep("spec.host: "+host+": the ports of this Service are not known; add its manifest", rule.Object)
		return
	}
	if fields := ports[0].policy.unsupported; len(fields) > 0 {
		f.keep(strings.Join(fields, ", ")+": has no annotation", rule.Object)
		return
	}
	if !strings.Contains(host, ".") {
		host += "." + rule.Namespace
	}
	short, _, _ := strings.Cut(host, ".")
	local := short + "." + rule.Namespace
	u := f.usersOf(rule, []string{host, rule.typed.Spec.Host, short, local, local + ".svc"})
	f.undecided(u, []preview.Object{rule.Object})
	for _, t := range u.certain {
		r := &request{destination: destination{hosts: []string{host}}, rule: rule}
		f.add(t, r, ports, u, nil, []preview.Object{rule.Object})
	}
}

// add adds a request to a workload, or keeps the objects.
func (f *finder) add(t *template, r *request, ports []dialledPort, u users, e *networkingv1.ServiceEntry,
	involved []preview.Object) {
	f.mentioned[t.key()] = true
	if f.refused[t.key()] != "" {
		f.keep(name(t.Object)+" still uses it", involved...)
		return
	}
	s := settings{}
	if len(r.hosts) > 0 {
		s.set("host", r.hosts[0])
		s.set("nodes", strings.Join(r.hosts[1:], ","))
	}
	s.set("addresses", strings.Join(r.addresses, ","))
	s.ports(ports)
	s.connection(ports[0].policy.pool)
	tls := ports[0].policy.tls
	sources, reason := s.tls(t, tls, func(name string) bool { return f.secrets[t.Namespace+"/"+name] })
	if reason != "" {
		f.keep(reason, involved...)
		return
	}
	if len(r.hosts) == 0 || tls.Sni != r.hosts[0] {
		s.set("sni", tls.Sni)
	}
	if len(r.addresses) > 0 || !sameNames(tls.SubjectAltNames, r.hosts) {
		s.set("subject-alt-names", strings.Join(tls.SubjectAltNames, ","))
	}
	r.settings, r.sources = s, sources
	r.compare(t, u, e, tls, ports)
	f.requests[t] = append(f.requests[t], r)
	for _, o := range involved {
		f.useOf(o).adopted = true
	}
}

func sameNames(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// undecided keeps the objects for the workloads that may use them, and names these.
func (f *finder) undecided(u users, involved []preview.Object) {
	switch {
	case len(u.undecided) > 0:
		f.keep(fmt.Sprintf("may be used by %s: %s; choose with --workload, as in --workload %s",
			listOf(u.undecided), u.reason, strings.ToLower(name(u.undecided[0].Object))), involved...)
	case len(u.certain) == 0:
		f.keep(u.reason+"; add its manifest", involved...)
	}
}

// useOf returns the use of an object.
func (f *finder) useOf(o preview.Object) *use {
	key := keyOf(o)
	if f.uses[key] == nil {
		f.uses[key] = &use{Object: o}
		f.order = append(f.order, key)
	}
	return f.uses[key]
}

// keep keeps objects for a reason.
func (f *finder) keep(reason string, objects ...preview.Object) {
	for _, o := range objects {
		if u := f.useOf(o); !slices.Contains(u.blockers, reason) {
			u.blockers = append(u.blockers, reason)
		}
	}
}

func keyOf(o preview.Object) string { return o.Kind + "/" + o.Namespace + "/" + o.Name }

func (t *template) key() string { return keyOf(t.Object) + fmt.Sprint(t.path) }

func (f *finder) isChosen(t *template) bool {
	return slices.Contains(f.chosen, strings.ToLower(name(t.Object)))
}

// entriesOf returns the entries to which a rule applies: those of its namespace, or else those exported to it.
func (f *finder) entriesOf(rule object[*networkingv1.DestinationRule]) (entries []object[*networkingv1.ServiceEntry]) {
	for _, e := range f.entries {
		if exported(e.typed, rule.Namespace) && slices.ContainsFunc(e.typed.Spec.Hosts, func(h string) bool {
			return matchesHost(rule.typed.Spec.Host, h)
		}) {
			entries = append(entries, e)
		}
	}
	isOwn := func(e object[*networkingv1.ServiceEntry]) bool { return e.Namespace == rule.Namespace }
	if slices.ContainsFunc(entries, isOwn) {
		entries = slices.DeleteFunc(entries, func(e object[*networkingv1.ServiceEntry]) bool { return !isOwn(e) })
	}
	return entries
}

// hostsOf returns the names and addresses by which apps may dial an entry.
func hostsOf(e *networkingv1.ServiceEntry) []string {
	hosts := append(slices.Clone(e.Spec.Hosts), e.Spec.Addresses...)
	for _, endpoint := range e.Spec.Endpoints {
		hosts = append(hosts, strings.TrimSuffix(endpoint.Address, "."))
	}
	return hosts
}

// serviceOf returns the Service of a host, in any form.
func (f *finder) serviceOf(host, namespace string) *corev1.Service {
	short, rest, _ := strings.Cut(host, ".")
	if other, _, _ := strings.Cut(rest, "."); other != "" {
		namespace = other
	}
	for _, s := range f.services {
		if s.Name == short && s.Namespace == namespace {
			return s.typed
		}
	}
	return nil
}
