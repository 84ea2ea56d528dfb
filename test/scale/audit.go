package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/redis-tls/redis-tls/test/harness"
)

// auditPolicy makes the API server log each request of the webhook's service account, and no other.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: ["system:serviceaccount:redis-tls-system:redis-tls-webhook"]
- level: None
`

// auditLog is the API server's audit log, which has all requests of the webhook, whatever the webhook itself counts.
type auditLog struct{ path string }

// mark is a position in the log.
type mark int64

// now returns the end of the log.
func (a *auditLog) now() (mark, error) {
	info, err := os.Stat(a.path)
	if err != nil {
		return 0, fmt.Errorf("finding the end of the audit log: %w", err)
	}
	return mark(info.Size()), nil
}

// since returns the calls in the log after the mark.
func (a *auditLog) since(m mark) (calls, error) {
	f, err := os.Open(a.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(int64(m), io.SeekStart); err != nil {
		return nil, err
	}
	return readCalls(f)
}

// calls are numbers of requests, by kind: "patch serviceentries", "watch pods", "get /apis/networking.istio.io/v1".
type calls map[string]int

// readCalls reads audit events, one on each line. A watch counts when it begins, and any other request when it ends.
func readCalls(r io.Reader) (calls, error) {
	c := calls{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event struct {
			Stage, Verb, RequestURI string
			ObjectRef               struct{ Namespace, Resource, Subresource string }
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return nil, fmt.Errorf("reading the audit log: %w: %s", err, lines.Bytes())
		}
		wanted := "ResponseComplete"
		if event.Verb == "watch" {
			wanted = "ResponseStarted"
		}
		if event.Stage != wanted {
			continue
		}
		resource := event.ObjectRef.Resource
		if resource == "" {
			resource, _, _ = strings.Cut(event.RequestURI, "?")
		}
		if event.ObjectRef.Subresource != "" {
			resource += "/" + event.ObjectRef.Subresource
		}
		if resource == "events" && event.ObjectRef.Namespace == harness.ReleaseNamespace {
			resource = ofElection
		}
		c[event.Verb+" "+resource]++
	}
	return c, lines.Err()
}

// ofElection are Events of the replica's own namespace, about the leader.
const ofElection = "events of the election"

// upkeep reports whether a replica makes such a call without any new pod. It renews the lease or tries to take it,
// reads which kinds are served, and restarts a watch that the API server has ended.
func upkeep(call string) bool {
	verb, resource, _ := strings.Cut(call, " ")
	discovers := verb == "get" && strings.HasPrefix(resource, "/")
	return resource == "leases" || resource == ofElection || verb == "watch" || discovers
}

// work returns the calls without the upkeep.
func (c calls) work() calls {
	work := calls{}
	for call, n := range c {
		if !upkeep(call) {
			work[call] = n
		}
	}
	return work
}

// writes returns the calls of the work that change something.
func (c calls) writes() calls {
	writes := calls{}
	for call, n := range c.work() {
		switch verb, _, _ := strings.Cut(call, " "); verb {
		case "create", "update", "patch", "delete", "deletecollection":
			writes[call] = n
		}
	}
	return writes
}

func (c calls) sum() (n int) {
	for _, count := range c {
		n += count
	}
	return n
}
