package annotation

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// rules are what values are checked against, in addition to their syntax.
type rules struct {
	cfg       config.Config
	services  Services // nil: no lookup (configuration)
	partial   bool     // see Input.Partial
	namespace string
	inMesh    bool // the host is a Service of the mesh: mode istio-mutual
	// serviceAccount is the pod's; empty without a pod.
	serviceAccount string
	// secretOf is Input.SecretOfCertificate; nil: no lookup.
	secretOf func(certificate string) string
}

// draft has the parsed keys of an instance. Zero values are defaults.
type draft struct {
	rules
	host        serverName
	nodes       []serverName
	ports       []int32
	targetPort  int32
	passthrough []int32
	addresses   []netip.Prefix
	caSecret    string
	caConfigMap string
	caKey       string
	mode        origination.Mode
	client      string // the Secret
	issuer      origination.Issuer
	certificate string
	insecure    bool
	sds         bool
	sni         string
	names       []string
	protocol    string
	connection  origination.Connection
	settings    origination.Settings
	warnings    []string
}

// parseValue reads the value of one key into the draft. An empty value is the default.
func parseValue(k *Key, d *draft, path *field.Path, value string) field.ErrorList {
	if len(value) > maxValueBytes {
		return field.ErrorList{field.TooLong(path, value, maxValueBytes)}
	}
	if value = strings.TrimSpace(value); value == "" {
		return nil
	}
	if errs := closedValue(k, path, value); len(errs) > 0 || k.parse == nil {
		return errs
	}
	return k.parse(d, path, value)
}

// closedValue checks a value against the closed set of its key, if it has one.
func closedValue(k *Key, path *field.Path, value string) field.ErrorList {
	if len(k.Values) == 0 {
		return nil
	}
	var supported []string
	for _, v := range k.Values {
		if v.Supported {
			supported = append(supported, v.Name)
		}
	}
	at := slices.IndexFunc(k.Values, func(v Value) bool { return v.Name == value })
	switch {
	case at < 0:
		return field.ErrorList{field.NotSupported(path, origination.Shorten(value), supported)}
	case !k.Values[at].Supported:
		return field.ErrorList{field.Invalid(path, value, "is not supported yet; use one of "+strings.Join(supported, ", "))}
	}
	return nil
}

// list splits a comma list, and passes each trimmed element to parse, which returns its problem.
func list(path *field.Path, value string, most int, example string, parse func(element string) string) field.ErrorList {
	if n := strings.Count(value, ",") + 1; n > most {
		return field.ErrorList{field.TooMany(path, n, most)}
	}
	var errs field.ErrorList
	for element := range strings.SplitSeq(value, ",") {
		element = strings.TrimSpace(element)
		problem := "must not have an empty element; write " + example
		bad := value
		if element != "" {
			problem, bad = parse(element), element
		}
		if problem != "" {
			errs = append(errs, field.Invalid(path, origination.Shorten(bad), problem))
		}
	}
	return errs
}

// portList reads a comma list of ports and ranges, and returns the ports sorted and without duplicates.
func portList(path *field.Path, value string) ([]int32, field.ErrorList) {
	var ports []int32
	total := 0
	errs := list(path, value, maxPorts, "ports as in \"6379,8500-8599\"", func(element string) string {
		from, to, problem := origination.NumberRange(element)
		if problem != "" {
			return problem
		}
		if total += int(to-from) + 1; total <= maxPorts {
			for n := from; n <= to; n++ {
				ports = append(ports, n)
			}
		}
		return ""
	})
	if len(errs) == 0 && total > maxPorts {
		return nil, invalid(path, value, fmt.Sprintf("must have at most %d ports, got %d. Each is a listener in every "+
			"sidecar of the namespace; write only the ports of nodes that exist", maxPorts, total))
	}
	slices.Sort(ports)
	return slices.Compact(ports), errs
}

func parseHost(d *draft, path *field.Path, value string) field.ErrorList {
	host, problem := d.rules.host(value)
	d.host = host
	return invalid(path, value, problem)
}

func parsePort(d *draft, path *field.Path, value string) (errs field.ErrorList) {
	d.ports, errs = portList(path, value)
	return errs
}

func parsePassthrough(d *draft, path *field.Path, value string) (errs field.ErrorList) {
	d.passthrough, errs = portList(path, value)
	return errs
}

func parseTargetPort(d *draft, path *field.Path, value string) field.ErrorList {
	n, problem := origination.Number(value)
	d.targetPort = n
	return invalid(path, value, problem)
}

func parseAddresses(d *draft, path *field.Path, value string) field.ErrorList {
	var addresses []netip.Prefix
	errs := list(path, value, maxAddresses, "addresses as in \"10.0.0.3,10.0.0.4\"", func(element string) string {
		p, loose, problem := parseAddress(element)
		if problem == "" {
			problem = d.addressProblem(p)
		}
		if problem == "" && loose {
			d.warnings = append(d.warnings, fmt.Sprintf("%s: %s covers the whole range %s; write %q, or %q for one address",
				path, element, p, p, strings.Split(element, "/")[0]))
		}
		addresses = append(addresses, p)
		return problem
	})
	if len(errs) == 0 {
		d.addresses = tidyAddresses(addresses)
	}
	return errs
}

func parseCASecret(d *draft, path *field.Path, value string) field.ErrorList {
	d.caSecret = value
	return invalid(path, value, objectNameProblem("a Secret", value))
}

func parseCAConfigMap(d *draft, path *field.Path, value string) field.ErrorList {
	d.caConfigMap = value
	return invalid(path, value, objectNameProblem("a ConfigMap", value))
}

func parseClientSecret(d *draft, path *field.Path, value string) field.ErrorList {
	d.client = value
	return invalid(path, value, objectNameProblem("a Secret", value))
}

func parseMode(d *draft, _ *field.Path, value string) field.ErrorList {
	d.mode = origination.Mode(value)
	return nil
}

func parseInsecure(d *draft, _ *field.Path, value string) field.ErrorList {
	d.insecure = value == "true"
	return nil
}

func parseProtocol(d *draft, _ *field.Path, value string) field.ErrorList {
	d.protocol = value
	return nil
}

func parseCAKey(d *draft, path *field.Path, value string) field.ErrorList {
	d.caKey = value
	return invalid(path, value, dataKeyProblem(value))
}

func parseSNI(d *draft, path *field.Path, value string) field.ErrorList {
	name, problem := origination.NormalName(value,
		"write a DNS name, as in \"redis.example.com\" (RFC 6066 allows no address)")
	d.sni = name
	return invalid(path, value, problem)
}

func parseSubjectAltNames(d *draft, path *field.Path, value string) field.ErrorList {
	var names []string
	const example = "names as in \"redis.example.com,10.0.0.3\""
	errs := list(path, value, maxSubjectAltNames, example, func(element string) string {
		name, problem := subjectAltName(element)
		names = append(names, name)
		return problem
	})
	slices.Sort(names)
	d.names = slices.Compact(names)
	return errs
}

// objectNameForm is the form of the names of Secrets, ConfigMaps and custom resources.
const objectNameForm = "lower-case letters, digits, '-' and '.', at most 253 characters, as in \"redis-ca\""

// objectNameProblem says why the name cannot be that of an object of the kind ("a Secret"), or returns "".
func objectNameProblem(kind, name string) string {
	if len(validation.IsDNS1123Subdomain(name)) == 0 {
		return ""
	}
	return "must be the name of " + kind + ": " + objectNameForm
}

// dataKeyProblem says why the key cannot be one of a Secret or ConfigMap, or returns "".
func dataKeyProblem(key string) string {
	if len(validation.IsConfigMapKey(key)) == 0 {
		return ""
	}
	return "must be a key of a Secret or ConfigMap: letters, digits, '-', '_' and '.', at most 253 characters, as in " +
		"\"ca.crt\""
}

// invalid returns the error for a value with a problem, and none without.
func invalid(path *field.Path, value, problem string) field.ErrorList {
	if problem == "" {
		return nil
	}
	return field.ErrorList{field.Invalid(path, origination.Shorten(value), problem)}
}
