package origination

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Connection has the settings of the TCP connections to the server (ConnectionPoolSettings.TCPSettings of Istio's
// DestinationRule). Nil and zero fields keep the defaults of Istio and Envoy.
type Connection struct {
	// ConnectTimeout is at least a millisecond.
	ConnectTimeout *metav1.Duration
	// IdleTimeout closes connections without traffic; zero never does. Envoy's own default is an hour.
	IdleTimeout *metav1.Duration
	// Keepalive makes the kernel probe idle connections; nil does not.
	Keepalive *Keepalive
}

// Keepalive has the kernel's TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT. Zero fields keep the kernel's defaults.
type Keepalive struct {
	// Time is how long a connection is idle before the first probe, Interval the time between
	// probes; whole seconds, as the kernel counts them.
	Time     metav1.Duration
	Interval metav1.Duration
	// Probes is the number of unanswered probes that end the connection, 1 to 127 (tcp(7)).
	Probes uint32
}

// text returns the settings for the key; empty without any.
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

// DurationText returns the value of the annotation; empty without one.
func DurationText(d *metav1.Duration) string {
	if d == nil {
		return ""
	}
	return d.Duration.String()
}

// Text returns the value of the annotation; empty without one.
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
