package origination

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Connection holds settings of the TCP connections to the server (ConnectionPoolSettings.TCPSettings
// of Istio's DestinationRule). Nil and zero fields leave what Istio and Envoy do by default.
type Connection struct {
	// ConnectTimeout is at least a millisecond.
	ConnectTimeout *metav1.Duration `json:"connectTimeout,omitempty"`
	// IdleTimeout closes connections without traffic; zero never does. Envoy's own default is an hour.
	IdleTimeout *metav1.Duration `json:"idleTimeout,omitempty"`
	// Keepalive, when given, makes the kernel probe idle connections.
	Keepalive *Keepalive `json:"keepalive,omitempty"`
}

// Keepalive are the kernel's TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT; what is zero is the kernel's default.
type Keepalive struct {
	// Time is how long a connection is idle before the first probe, Interval the time between
	// probes; whole seconds, as the kernel counts them.
	Time     metav1.Duration `json:"time,omitzero"`
	Interval metav1.Duration `json:"interval,omitzero"`
	// Probes is how many go unanswered before the connection is dead, 1 to 127 (tcp(7)).
	Probes uint32 `json:"probes,omitempty"`
}

// Bounds of the kernel's: TCP_KEEPIDLE and TCP_KEEPINTVL go to 32767 s, TCP_KEEPCNT to 127 (include/net/tcp.h).
const (
	longestKeepalive = 32767 * time.Second
	mostProbes       = 127
	longestTimeout   = 30 * 24 * time.Hour
)

// text spells the settings for hashes; empty without any.
func (c *Connection) text() string {
	var parts []string
	for _, setting := range [...][2]string{
		{"connect-timeout", durationText(c.ConnectTimeout)},
		{"idle-timeout", durationText(c.IdleTimeout)},
		{"tcp-keepalive", c.Keepalive.text()},
	} {
		if setting[1] != "" {
			parts = append(parts, setting[0]+"="+setting[1])
		}
	}
	return strings.Join(parts, ";")
}

// durationText spells the annotation; empty where there is none.
func durationText(d *metav1.Duration) string {
	if d == nil {
		return ""
	}
	return d.Duration.String()
}

// text spells the annotation; empty where there is none.
func (k *Keepalive) text() string {
	if k == nil {
		return ""
	}
	var parts []string
	if k.Time.Duration != 0 {
		parts = append(parts, "time="+k.Time.Duration.String())
	}
	if k.Interval.Duration != 0 {
		parts = append(parts, "interval="+k.Interval.Duration.String())
	}
	if k.Probes != 0 {
		parts = append(parts, fmt.Sprintf("probes=%d", k.Probes))
	}
	return strings.Join(parts, ",")
}

// timeoutProblem says why the API server would refuse the duration (Istio's ValidateDuration), or returns "".
func timeoutProblem(d time.Duration) string {
	if d < time.Millisecond || d > longestTimeout || d%time.Millisecond != 0 {
		return "must be a duration from 1ms to 720h in whole milliseconds, as in \"3s\""
	}
	return ""
}

func idleTimeoutProblem(d time.Duration) string {
	if d == 0 {
		return ""
	}
	if problem := timeoutProblem(d); problem != "" {
		return problem + "; \"0s\" is never"
	}
	return ""
}

// problem says what is wrong with the settings, or returns "".
func keepaliveProblem(k *Keepalive) string {
	seconds := func(d time.Duration) bool {
		return d == 0 || d >= time.Second && d <= longestKeepalive && d%time.Second == 0
	}
	switch {
	case !seconds(k.Time.Duration) || !seconds(k.Interval.Duration):
		return "time and interval must be whole seconds from 1s to 32767s, as in \"" + keepaliveExample + "\""
	case k.Probes > mostProbes:
		return "probes must be a number from 1 to 127, as in \"" + keepaliveExample + "\""
	case *k == Keepalive{}:
		return "says nothing; write any of time, interval and probes, as in \"" + keepaliveExample + "\""
	}
	return ""
}

const keepaliveExample = "time=300s,interval=30s,probes=5"

// duration reads a duration as Go and Kubernetes write it.
func duration(value string, problem func(time.Duration) string) (*metav1.Duration, string) {
	d, err := time.ParseDuration(value)
	if err != nil {
		d = -1 // nothing that any rule takes
	}
	return &metav1.Duration{Duration: d}, problem(d)
}

func parseConnectTimeout(d *draft, path *field.Path, value string) field.ErrorList {
	timeout, problem := duration(value, timeoutProblem)
	d.connection.ConnectTimeout = timeout
	return invalid(path, value, problem)
}

func parseIdleTimeout(d *draft, path *field.Path, value string) field.ErrorList {
	timeout, problem := duration(value, idleTimeoutProblem)
	d.connection.IdleTimeout = timeout
	return invalid(path, value, problem)
}

func parseKeepalive(d *draft, path *field.Path, value string) field.ErrorList {
	k := Keepalive{}
	seen := map[string]bool{}
	errs := list(path, value, 3, "settings as in \""+keepaliveExample+"\"", func(element string) string {
		name, text, _ := strings.Cut(element, "=")
		if seen[name] {
			return "names " + name + " twice; write each once"
		}
		seen[name] = true
		interval := func(into *metav1.Duration) string {
			d, err := time.ParseDuration(text)
			if err != nil || d == 0 {
				return "must be a duration, as in \"" + name + "=300s\""
			}
			into.Duration = d
			return ""
		}
		switch name {
		case "time":
			return interval(&k.Time)
		case "interval":
			return interval(&k.Interval)
		case "probes":
			n, err := strconv.ParseUint(text, 10, 32)
			if err != nil || n == 0 {
				return "must be a number from 1 to 127, as in \"probes=5\""
			}
			k.Probes = uint32(n)
			return ""
		}
		return "is none of time, interval and probes, as in \"" + keepaliveExample + "\""
	})
	if len(errs) == 0 {
		errs = invalid(path, value, keepaliveProblem(&k))
	}
	d.connection.Keepalive = &k
	return errs
}
