package annotation

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-tls/redis-tls/internal/origination"
)

func TestAStatusIsReadAsItWasWritten(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 89000000, time.UTC)
	for name, s := range map[string]origination.Status{
		"with a pin, a CA and a time": {Version: "v1", Originations: []origination.Origination{pinnedByName(), dialledByAddress()}, FirstUse: &at},
		"with nothing":                {Version: "v1", Originations: []origination.Origination{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := origination.ParseStatus(s.String())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(s, got, compareResults); diff != "" {
				t.Errorf("status differs (-want +got):\n%s", diff)
			}
			if s.String() != got.String() {
				t.Errorf("written again it is %s", got)
			}
		})
	}
}

func TestAStatusIsReadStrictly(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"nothing":           {"", "EOF"},
		"no JSON":           {"a true story", "invalid character"},
		"another version":   {`{"version":"v2","originations":[]}`, `version "v2", this release reads "v1"`},
		"no version":        {`{"originations":[]}`, `version "", this release reads "v1"`},
		"an unknown field":  {`{"version":"v1","colour":"red"}`, `unknown field "colour"`},
		"a second value":    {`{"version":"v1"}{"version":"v1"}`, "data after the JSON value"},
		"a brace behind":    {`{"version":"v1"}}`, "data after the JSON value"},
		"a bracket behind":  {`{"version":"v1"}]`, "data after the JSON value"},
		"no address":        {`{"version":"v1","originations":[{"addresses":["x"]}]}`, "no '/'"},
		"a port that is no": {`{"version":"v1","originations":[{"ports":[{"number":99999999999}]}]}`, "99999999999"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := origination.ParseStatus(test.text)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "parsing redis-tls/status: ") {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}
