package monitoring

import (
	"testing"

	"github.com/redis-tls/redis-tls/test/catalog"
)

// TestMessagesOfTheAlerts keeps the summary and the description of each alert.
func TestMessagesOfTheAlerts(t *testing.T) {
	c := catalog.Open(t)
	for _, alert := range alerts(t) {
		c.Add(alert.Alert, alert.Annotations["summary"], alert.Annotations["description"])
	}
}
