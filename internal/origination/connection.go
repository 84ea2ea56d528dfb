package origination

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Connection holds settings of the TCP connections to the server (ConnectionPoolSettings.TCPSettings
// of Istio's DestinationRule). Nil and zero fields leave what Istio and Envoy do by default.
type Connection struct {
	// ConnectTimeout is at least a millisecond.
	ConnectTimeout *metav1.Duration
	// IdleTimeout closes connections without traffic; zero never does. Envoy's own default is an hour.
	IdleTimeout *metav1.Duration
	// Keepalive, when given, makes the kernel probe idle connections.
	Keepalive *Keepalive
}

// Keepalive are the kernel's TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT; what is zero is the kernel's default.
type Keepalive struct {
	// Time is how long a connection is idle before the first probe, Interval the time between
	// probes; whole seconds, as the kernel counts them.
	Time     metav1.Duration
	Interval metav1.Duration
	// Probes is how many go unanswered before the connection is dead, 1 to 127 (tcp(7)).
	Probes uint32
}

// text spells the settings for the key; empty without any.
func (c *Connection) text() string {
	var parts []string
	for _, setting := range [...][2]string{
		{"connect-timeout", DurationText(c.ConnectTimeout)},
		{"idle-timeout", DurationText(c.IdleTimeout)},
		{"tcp-keepalive", c.Keepalive.Text()},
	} {
		if setting[1] != "" {
			parts = append(parts, setting[0]+"="+setting[1])
		}
	}
	return strings.Join(parts, ";")
}

// DurationText spells the annotation; empty where there is none.
func DurationText(d *metav1.Duration) string {
	if d == nil {
		return ""
	}
	return d.Duration.String()
}

// Text spells the annotation; empty where there is none.
func (k *Keepalive) Text() string {
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
