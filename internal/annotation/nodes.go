package annotation

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// numbers is a range of numbers in a node's name.
var numbers = regexp.MustCompile(`\{([0-9]{1,6})\.\.([0-9]{1,6})\}`)

// parseNodes reads the names of nodes: a comma list of names with ranges, sorted, each once.
func parseNodes(d *draft, path *field.Path, value string) field.ErrorList {
	var nodes []serverName
	errs := list(path, value, maxNodes, `names as in "redis-{0..2}.example.com"`, func(element string) string {
		if strings.Contains(element, "*") {
			return "must not be a wildcard, because /etc/hosts has none; write ranges, as in \"redis-{0..2}.example.com\""
		}
		names, problem := expandRanges(element)
		for _, name := range names {
			host, wrong := d.rules.host(name)
			if wrong != "" {
				return fmt.Sprintf("%q: %s", origination.Shorten(name), wrong)
			}
			nodes = append(nodes, host)
		}
		return problem
	})
	slices.SortFunc(nodes, func(a, b serverName) int { return strings.Compare(a.Host, b.Host) })
	d.nodes = slices.CompactFunc(nodes, func(a, b serverName) bool { return a.Host == b.Host })
	if len(d.nodes) > maxNodes && len(errs) == 0 {
		return field.ErrorList{field.TooMany(path, len(d.nodes), maxNodes)}
	}
	return errs
}

// expandRanges returns the names that a pattern stands for: "redis-{0..2}.example.com" for three. Numbers have as many
// digits as the first one: "{0001..0012}". A name without a range stands for itself. problem says what is wrong.
func expandRanges(pattern string) (names []string, problem string) {
	at := numbers.FindStringSubmatchIndex(pattern)
	if at == nil {
		if strings.ContainsAny(pattern, "{}") {
			return nil, `must have its ranges as two numbers, as in "redis-{0..2}.example.com"`
		}
		return []string{pattern}, ""
	}
	first, last := pattern[at[2]:at[3]], pattern[at[4]:at[5]]
	from, _ := strconv.Atoi(first) // digits, as the expression has it
	to, _ := strconv.Atoi(last)
	if from > to || len(first) > len(last) {
		return nil, fmt.Sprintf(
			`must have its ranges in ascending order with equal digits, as in "{%s..%s}"`,
			min(first, last),
			max(first, last),
		)
	}
	rest, problem := expandRanges(pattern[at[1]:])
	if problem != "" {
		return nil, problem
	}
	if n := (to - from + 1) * len(rest); n > maxNodes {
		return nil, fmt.Sprintf("must stand for at most %d names, got %d; write only the nodes that exist", maxNodes, n)
	}
	for n := from; n <= to; n++ {
		for _, end := range rest {
			names = append(names, pattern[:at[0]]+fmt.Sprintf("%0*d", len(first), n)+end)
		}
	}
	return names, ""
}

// checkNodes checks the names of nodes together with the rest of the instance.
func (req *request) checkNodes() field.ErrorList {
	if len(req.Nodes) == 0 {
		return nil
	}
	p := problems{instance: req.instance}
	switch {
	case req.HostSynthesised:
		p.invalid("nodes", "requires %s, the name that the app dials first; move one of the names there", p.key("host"))
	case req.HTTP():
		p.invalid("nodes", "cannot be used with %s: http, which routes by the Host header; "+
			"give each name its own instance, as in \"b.%shost\"", p.key("protocol"), origination.Prefix)
	case !req.Pinned():
		p.invalid("nodes", "cannot be used with several addresses or a CIDR in %s; remove one of them", p.key("addresses"))
	}
	if slices.ContainsFunc(req.Nodes, func(node origination.Name) bool { return node.Host == req.Host }) {
		p.invalid("nodes", "must not contain %s, which %s has; remove it here", req.Host, p.key("host"))
	}
	if n := (1 + len(req.Nodes)) * len(req.PortNumbers()); n > maxNamePorts {
		p.invalid("nodes", "must give at most %d pairs of a name and a port, got %d; write fewer names or ports",
			maxNamePorts, n)
	}
	dialled := 1 + len(req.Aliases)
	for i := range req.Nodes {
		dialled += 1 + len(req.Nodes[i].Aliases)
	}
	if dialled > maxDialled {
		p.invalid("nodes", "must have at most %d names with all forms of the Services' names, got %d; write fewer names",
			maxDialled, dialled)
	}
	return p.errs
}

// sharedNames refuses a name in two originations of one pod, or for two nodes, because it can have the VIP of only one.
func sharedNames(merged []*request) field.ErrorList {
	type owner struct {
		req  *request
		host string
	}
	var errs field.ErrorList
	owners := map[string]owner{}
	add := func(key string, req *request, name origination.Name) {
		for _, dialled := range name.Dialled() {
			other, found := owners[dialled]
			switch {
			case !found:
				owners[dialled] = owner{req, name.Host}
			case other != owner{req, name.Host}: // checkNodes reports an equal one
				p := problems{instance: req.instance}
				p.invalid(key, "must not contain %s, which instance %s has; remove it from one of them",
					dialled, strings.Join(other.req.Instances, ", "))
				errs = append(errs, p.errs...)
				return
			}
		}
	}
	for _, req := range merged {
		if !req.HostSynthesised {
			add("host", req, origination.Name{Host: req.Host, Aliases: req.Aliases})
		}
	}
	for _, req := range merged {
		for _, node := range req.Nodes {
			add("nodes", req, node)
		}
	}
	return errs
}

// joinNodes writes a list of nodes as a user would.
func joinNodes(nodes []origination.Name) string {
	hosts := make([]string, len(nodes))
	for i, node := range nodes {
		hosts[i] = node.Host
	}
	return strings.Join(hosts, ",")
}

// nodesWarning says that the nodes of a cluster of ElastiCache or MemoryDB have names of their own, if none is given.
// The host is then its configuration endpoint.
func (req *request) nodesWarning() []string {
	domain, endpoint := strings.CutPrefix(req.Host, "clustercfg.")
	cache, _, dots := strings.Cut(domain, ".")
	if !endpoint || !dots || len(req.Nodes) > 0 || req.HTTP() || !req.Pinned() {
		return nil
	}
	key := func(name string) string { return origination.KeyOf(req.instance.name, name) }
	return []string{fmt.Sprintf("%s: %s is a configuration endpoint. The client dials the nodes by other names, "+
		"which have no VIP, so in plaintext. Add %s: %q, or replace the host by the cluster's subnets in %s",
		req.instance.at("host"), req.Host, key("nodes"),
		cache+"-{0001..0003}-{001..002}."+domain, key("addresses"))}
}
