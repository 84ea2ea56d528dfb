package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

var objectChecks = []Check{
	{
		ID: "objects-exist", Category: Workloads, Severity: Error,
		Title: "its objects of Istio exist",
		Why:   "Without its entry and its rule, connections to a VIP fail.",
		Fix:   "`kubectl -n WORKLOAD_NAMESPACE get events --field-selector reportingComponent=redis-tls`",
		Needs: []Source{sourceObjects},
		After: []string{"pod-admitted"},
		run:   checkObjects,
	},
	{
		ID: "objects-unedited", Category: Workloads, Severity: Error,
		Title: "its objects of Istio are as redis-tls wrote them",
		Why:   "An edited object can connect to another server, or without the check of its name.",
		Fix:   "Find the other writer in `metadata.managedFields` of the object. redis-tls repairs an edit within seconds.",
		Needs: []Source{sourceObjects},
		After: []string{"pod-admitted"},
		run: func(in *Input) Result {
			return objectsIn(in, isOpen, map[mesh.State]string{mesh.StateEdited: "must be as redis-tls wrote it"})
		},
	},
	{
		ID: "closed-rule", Category: Workloads, Severity: Error,
		Title: "the closed rules of its VIPs are in force",
		Why:   "Without it, a copy of the pod that lacks the label sends plaintext to the TLS port of the server.",
		Fix:   "`kubectl -n WORKLOAD_NAMESPACE get events --field-selector reportingComponent=redis-tls`",
		Needs: []Source{sourceObjects},
		After: []string{"pod-admitted"},
		run: func(in *Input) Result {
			return objectsIn(in, func(s mesh.ObjectState) bool { return !isOpen(s) }, map[mesh.State]string{
				mesh.StateMissing: "must exist", mesh.StateMarked: "must not be deleted", mesh.StateUnmanaged: unmanagedText,
				mesh.StateEdited: "must be as redis-tls wrote it",
			})
		},
	},
}

const unmanagedText = "must have the label " + origination.ManagedByLabel + "=" + origination.ManagedBy +
	"; delete it, so that redis-tls creates it"

func checkObjects(in *Input) Result {
	// Unmanaged objects with these names are found by workload-rivals.
	result := objectsIn(in, isOpen, map[mesh.State]string{
		mesh.StateMissing: "must exist", mesh.StateMarked: "must not be deleted",
	})
	for _, r := range in.Workload.Refused {
		result.Found = append(result.Found, in.Workload.Name()+": "+strings.ReplaceAll(r.Problem.Err.Error(), "\n", " "))
	}
	if len(result.Found) == 0 {
		return passed(counted(len(in.Workload.States), "object"))
	}
	return result
}

// isOpen reports whether the object is not a closed rule.
func isOpen(s mesh.ObjectState) bool {
	return kindOf(s.Desired) != "DestinationRule" || !strings.HasPrefix(s.Desired.GetName(), origination.ClosedName)
}

// objectsIn returns a finding for each object in one of the states.
func objectsIn(in *Input, of func(mesh.ObjectState) bool, rules map[mesh.State]string) Result {
	var found []string
	for _, s := range in.Workload.States {
		if rule, wrong := rules[s.State]; wrong && of(s) {
			found = append(found, fmt.Sprintf("%s %s/%s: %s: %s",
				kindOf(s.Desired), in.Workload.Namespace, s.Desired.GetName(), s.State, rule))
		}
	}
	slices.Sort(found)
	return failed("", found...)
}
