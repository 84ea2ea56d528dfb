package annotation

import (
	"strings"
	"testing"

	"github.com/redis-tls/redis-tls/internal/config"
	"github.com/redis-tls/redis-tls/test/catalog"
)

func withConfig(change func(*config.Config)) config.Config {
	cfg := config.Default()
	change(&cfg)
	return cfg
}

func TestDefaultsAreCheckedLikeAnnotations(t *testing.T) {
	messages := catalog.Open(t)
	for name, test := range map[string]struct{ text, want string }{
		"of an unknown key": {
			text: "defaults: {redis-tls/hots: a.example.com}",
			want: "defaults[redis-tls/hots]: Invalid value",
		},
		"with another prefix": {
			text: "defaults: {host: a.example.com}",
			want: "defaults[host]: Invalid value",
		},
		"allowed only on pods": {
			text: "defaults: {redis-tls/inject: 'false'}",
			want: "defaults[redis-tls/inject]: Invalid value",
		},
		"that the webhook writes": {
			text: "defaults: {redis-tls/vips: a.example.com=251.0.0.1}",
			want: "defaults[redis-tls/vips]: Invalid value",
		},
		"of a wrong value": {
			text: "defaults: {redis-tls/port: x}",
			want: "defaults[redis-tls/port]: Invalid value",
		},
		"of a host in the cluster": {
			text: "clusterDomain: corp.example\ndefaults: {redis-tls/host: a.corp.example}",
			want: "defaults[redis-tls/host]: Invalid value",
		},
		"of an address that is a VIP": {
			text: "defaults: {redis-tls/addresses: 251.0.0.1}",
			want: "defaults[redis-tls/addresses]: Invalid value",
		},
		"that is not supported yet": {
			text: "defaults: {redis-tls/protocol: grpc}",
			want: "defaults[redis-tls/protocol]: Invalid value",
		},
		"of an invalid instance": {
			text: "defaults: {a.b.redis-tls/host: a.example.com}",
			want: "defaults[a.b.redis-tls/host]: Invalid value",
		},
		"of a configuration that is wrong otherwise": {
			text: "policy: {mode: x}\ndefaults: {redis-tls/port: x}",
			want: "policy.mode: Unsupported value",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for what, parse := range map[string]func([]byte) (config.Config, error){
				"the config file":    ParseConfig,
				"the chart's values": ParseValues,
			} {
				_, err := parse([]byte(test.text))
				if err == nil || !strings.Contains(err.Error(), test.want) ||
					!strings.HasPrefix(err.Error(), "parsing the configuration: ") {
					t.Fatalf("%s: error %v\nwant  %s", what, err, test.want)
				}
				if what == "the config file" {
					messages.Add(name, aggregatedTexts(err)...)
				}
			}
		})
	}
}

func TestDefaultsMayBeIncomplete(t *testing.T) {
	if _, err := ParseConfig(
		[]byte("defaults: {redis-tls/ca-key: ca.pem, redis-tls/addresses: 10.0.0.3, sessions.redis-tls/target-port: 6380}"),
	); err != nil {
		t.Error(err)
	}
}

func TestChartValuesMayHaveOtherKeys(t *testing.T) {
	const values = "defaults: {redis-tls/host: a.example.com}\nimage: {tag: v1}"
	cfg, err := ParseValues([]byte(values))
	if err != nil || cfg.Defaults["redis-tls/host"] != "a.example.com" {
		t.Errorf("defaults %v, error %v", cfg.Defaults, err)
	}
	if _, err := ParseConfig([]byte(values)); err == nil || !strings.Contains(err.Error(), `unknown field "image"`) {
		t.Errorf("the config file accepted it too: %v", err)
	}
}
