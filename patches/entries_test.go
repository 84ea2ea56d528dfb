package patches

import "testing"

// TestWithoutUserEntries: what the webhook inserted is removed, and every byte of the user stays.
func TestWithoutUserEntries(t *testing.T) {
	for name, test := range map[string]struct {
		value, want string
		stay        int
	}{
		"the last of a list":           {`[{"name":"z"},{"name":"gone"}]`, `[{"name":"z"}]`, 1},
		"the first of a list":          {`[ {"name":"gone"}, {"name":"z"} ]`, `[ {"name":"z"} ]`, 1},
		"the middle of a list":         {`[{"name":"a"},{"name":"gone"}, {"name":"z"}]`, `[{"name":"a"}, {"name":"z"}]`, 2},
		"a key of a map":               {`{"gone":{},"z":{"a":[1]}}`, `{"z":{"a":[1]}}`, 1},
		"the only one":                 {`{"gone":{}}`, `{}`, 0},
		"white space":                  {"\n[\n  {\"name\":\"z\"},{\"name\":\"gone\"}\n]", "\n[\n  {\"name\":\"z\"}\n]", 1},
		"another one":                  {`{"z":{}}`, `{"z":{}}`, 1},
		"an entry that is no object":   {`[1,{"name":"gone"}]`, `[1]`, 1},
		"a map whose entry has a name": {`{"x":{"name":"gone"},"y":{}}`, `{"y":{}}`, 1},
		"an absent value":              {"", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, stay, err := WithoutUserEntries(test.value, func(e Entry) bool { return e.Name == "gone" })
			if err != nil || got != test.want || stay != test.stay {
				t.Errorf("%q, %d entries, %v; want %q, %d", got, stay, err, test.want, test.stay)
			}
		})
	}
	if _, _, err := WithoutUserEntries(`{"a"`, func(Entry) bool { return true }); err == nil {
		t.Error("a value that is not JSON gives no error")
	}
}
