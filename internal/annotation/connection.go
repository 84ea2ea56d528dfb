package annotation

import (
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// Limits of the kernel: TCP_KEEPIDLE and TCP_KEEPINTVL go to 32767 s, TCP_KEEPCNT to 127 (include/net/tcp.h).
const (
	longestKeepalive = 32767 * time.Second
	mostProbes       = 127
	longestTimeout   = 30 * 24 * time.Hour
)

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
		return problem + "; write \"0s\" for no timeout"
	}
	return ""
}

// keepaliveProblem says why the kernel does not accept the settings, or returns "".
func keepaliveProblem(k *origination.Keepalive) string {
	seconds := func(d time.Duration) bool {
		return d == 0 || d >= time.Second && d <= longestKeepalive && d%time.Second == 0
	}
	switch {
	case !seconds(k.Time.Duration) || !seconds(k.Interval.Duration):
		return "time and interval must be whole seconds from 1s to 32767s, as in \"" + keepaliveExample + "\""
	case k.Probes > mostProbes:
		return "probes must be a number from 1 to 127, as in \"" + keepaliveExample + "\""
	}
	return ""
}

const keepaliveExample = "time=300s,interval=30s,probes=5"

// duration reads a duration as Go and Kubernetes write it.
func duration(value string, problem func(time.Duration) string) (*metav1.Duration, string) {
	d, err := time.ParseDuration(value)
	if err != nil {
		d = -1 // no rule accepts it
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
	k := origination.Keepalive{}
	seen := map[string]bool{}
	errs := list(path, value, 3, "settings as in \""+keepaliveExample+"\"", func(element string) string {
		name, text, _ := strings.Cut(element, "=")
		if seen[name] {
			return "must not repeat " + name + "; write each setting once"
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
		return "must be time, interval or probes, as in \"" + keepaliveExample + "\""
	})
	if len(errs) == 0 {
		errs = invalid(path, value, keepaliveProblem(&k))
	}
	d.connection.Keepalive = &k
	return errs
}
