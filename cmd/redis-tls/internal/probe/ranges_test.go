package probe

import "testing"

func TestNamesBecomeRanges(t *testing.T) {
	for _, c := range []struct {
		name  string
		names []string
		want  string
	}{
		{
			name:  "names that differ in one number are one range",
			names: []string{"redis-2.example.com", "redis-0.example.com", "redis-1.example.com"},
			want:  "redis-{0..2}.example.com",
		},
		{
			name: "names that differ in two numbers are one pattern with two ranges",
			names: []string{
				"cart-0001-001.x.com", "cart-0001-002.x.com", "cart-0002-001.x.com", "cart-0002-002.x.com",
			},
			want: "cart-{0001..0002}-{001..002}.x.com",
		},
		{
			name:  "a gap is two ranges",
			names: []string{"r1.x.com", "r2.x.com", "r4.x.com", "r5.x.com"},
			want:  "r{1..2}.x.com,r{4..5}.x.com",
		},
		{
			name:  "a missing replica does not add names",
			names: []string{"n-1-1.x.com", "n-1-2.x.com", "n-2-1.x.com"},
			want:  "n-1-2.x.com,n-{1..2}-1.x.com",
		},
		{
			name:  "numbers without leading zeros may have other lengths",
			names: []string{"r8.x.com", "r9.x.com", "r10.x.com"},
			want:  "r{8..10}.x.com",
		},
		{
			name:  "names without numbers stay",
			names: []string{"b.x.com", "a.x.com"},
			want:  "a.x.com,b.x.com",
		},
		{
			name:  "one name stays",
			names: []string{"redis-0.x.com"},
			want:  "redis-0.x.com",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := nameRanges(c.names); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestPortsBecomeRanges(t *testing.T) {
	if got, want := portRanges([]uint16{10000, 8502, 8500, 8501, 6379, 6379}), "6379,8500-8502,10000"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
