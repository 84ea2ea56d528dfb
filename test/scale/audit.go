package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/redis-tls/redis-tls/test/harness"
)

// webhookAccount is the user name of the webhook.
const webhookAccount = "system:serviceaccount:redis-tls-system:redis-tls-webhook"

// auditPolicy makes the API server log each request of the webhook's service account, and no other.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: ["` + webhookAccount + `"]
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
	c, _, err := a.served(m)
	return c, err
}

// served returns the calls in the log after the mark, and the time that the API server took for their work.
func (a *auditLog) served(m mark) (calls, time.Duration, error) {
	f, err := os.Open(a.path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	if _, err := f.Seek(int64(m), io.SeekStart); err != nil {
		return nil, 0, err
	}
	return readCalls(f)
}

// calls are numbers of requests, by kind: "patch serviceentries", "watch pods", "get /apis/networking.istio.io/v1".
type calls map[string]int

// readCalls reads audit events, one on each line. A watch counts when it begins, and any other request when it ends. It
// adds up the time that the API server took for all but the upkeep.
func readCalls(r io.Reader) (c calls, serving time.Duration, err error) {
	c = calls{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event struct {
			Stage, Verb, RequestURI string
			ObjectRef               struct{ Namespace, Resource, Subresource string }
			// Received is when the API server got the request, Ended when this stage began.
			Received time.Time `json:"requestReceivedTimestamp"`
			Ended    time.Time `json:"stageTimestamp"`
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return nil, 0, fmt.Errorf("reading the audit log: %w: %s", err, lines.Bytes())
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
		call := event.Verb + " " + resource
		c[call]++
		if !upkeep(call) {
			serving += event.Ended.Sub(event.Received)
		}
	}
	return c, serving, lines.Err()
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
