package annotation

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// compareKeys compares results: empty and absent lists are the same.
var compareKeys = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

// compareResults leaves out the keys, which follow from the rest.
var compareResults = append(compareKeys, cmpopts.IgnoreFields(origination.Origination{}, "Key"))

// knownServices is a cluster with the named Services ("namespace/name") and cluster IPs.
type knownServices map[string]string

func (k knownServices) Service(namespace, name string) (Service, bool) {
	ip, found := k[namespace+"/"+name]
	service := Service{}
	if addr, err := netip.ParseAddr(ip); err == nil {
		service.ClusterIPs = []netip.Addr{addr}
	} else {
		service.ExternalName = ip
	}
	return service, found
}

func (k knownServices) ServiceWithin(p netip.Prefix) (string, bool) {
	for name, ip := range k {
		if addr, err := netip.ParseAddr(ip); err == nil && p.Contains(addr) {
			return name, true
		}
	}
	return "", false
}

// cluster is the cluster of most tests.
var cluster = knownServices{"data/redis": "10.96.0.10", "shop/cache": "", "shop/six": "fd00:10:96::a"}

// pod returns the input of a pod in namespace shop with the annotations, given as key, value, key, value …
func pod(pairs ...string) Input {
	return Input{Namespace: "shop", Annotations: keysAndValues(pairs...)}
}

// inherit returns the input of a bare pod in an opted-in namespace with the annotations.
func inherit(pairs ...string) Input {
	return Input{
		Namespace:            "shop",
		NamespaceLabels:      map[string]string{"redis-tls/injection": "enabled"},
		NamespaceAnnotations: keysAndValues(pairs...),
	}
}

func keysAndValues(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

// mustResolve resolves a valid input, and checks that its status resolves to the same.
func mustResolve(t *testing.T, in Input, cfg config.Config) Result {
	t.Helper()
	res := Resolve(in, cfg, cluster)
	if len(res.Errors) > 0 || len(res.NamespaceProblems) > 0 {
		t.Fatalf("refused: %v %v", res.Errors, res.NamespaceProblems)
	}
	wantSameFromStatus(t, res, in, cfg, cluster)
	return res
}

// wantSameFromStatus checks that the status of a live pod resolves to the result of its admission.
func wantSameFromStatus(t *testing.T, res Result, in Input, cfg config.Config, services Services) {
	t.Helper()
	status, err := origination.ParseStatus(res.Status.String())
	if err != nil {
		t.Fatal(err)
	}
	again, err := ResolveStatus(status, in.Namespace, in.ServiceAccount, cfg, services)
	if err != nil {
		t.Fatalf("the request of an admitted pod is refused by its status %s: %v", status, err)
	}
	if diff := cmp.Diff(res.Originations, again.Originations, compareKeys); diff != "" {
		t.Fatalf("originations of a live pod with status %s differ (-admitted +live):\n%s", status, diff)
	}
	if res.Settings != again.Settings {
		t.Fatalf("settings %+v were admitted, and from %s they are %+v", res.Settings, status, again.Settings)
	}
	if diff := cmp.Diff(
		origination.Labels(res.Originations, res.Settings),
		origination.Labels(again.Originations, again.Settings),
	); diff != "" {
		t.Fatalf("labels of a live pod with status %s differ (-admitted +live):\n%s", status, diff)
	}
	if again.Status.String() != status.String() {
		t.Fatalf("status %s resolves to status %s", status, again.Status)
	}
}

// wantErrors checks where the errors are and of which kind, in order, as in "metadata.annotations[redis-tls/port]:
// Invalid value". Their sentences are in the goldens.
func wantErrors(t *testing.T, res Result, want ...string) {
	t.Helper()
	var got []string
	for _, err := range res.Errors {
		got = append(got, fmt.Sprintf("%s: %s", err.Field, err.Type))
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("errors differ (-want +got):\n%s", diff)
	}
	if len(res.Errors) > 0 && len(res.Originations) > 0 {
		t.Error("originations with errors")
	}
}

// wantWarnings checks what the warnings are about: each begins with the path or the subject, in order.
func wantWarnings(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("warnings %q, want %q", got, want)
		return
	}
	for i := range got {
		if !strings.HasPrefix(got[i], want[i]+": ") {
			t.Errorf("warning %q, want %q", got[i], want[i])
		}
	}
}

// errorTexts returns the messages of the errors.
func errorTexts(errs field.ErrorList) []string {
	var texts []string
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	return texts
}

// aggregatedTexts returns the messages of an aggregated error, or that of the error itself.
func aggregatedTexts(err error) []string {
	var all utilerrors.Aggregate
	if !errors.As(err, &all) {
		return []string{err.Error()}
	}
	var texts []string
	for _, err := range all.Errors() {
		texts = append(texts, err.Error())
	}
	return texts
}

// prefixes parses addresses and CIDRs.
func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		if !strings.Contains(text, "/") {
			addr := netip.MustParseAddr(text)
			all = append(all, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}
