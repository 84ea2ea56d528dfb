package main

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestGarbageIsHalfOfTheHeap(t *testing.T) {
	before := debug.SetGCPercent(200)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	for _, tc := range []struct {
		gogc string
		want int
	}{
		{gogc: "80", want: 200}, // the runtime has read it already
		{gogc: "", want: 50},
	} {
		t.Setenv("GOGC", tc.gogc)
		limitGarbage()
		if got := debug.SetGCPercent(200); got != tc.want {
			t.Errorf("with GOGC=%q it is %d %%, want %d %%", tc.gogc, got, tc.want)
		}
	}
}

func TestMemoryLimitIsTheContainers(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	t.Setenv("GOMEMLIMIT", "")
	t.Setenv(memoryVariable, "268435450")
	if err := limitMemory(); err != nil {
		t.Fatal(err)
	}
	if got := debug.SetMemoryLimit(-1); got != 214748360 {
		t.Errorf("the limit is %d, want 80 %%", got)
	}
	t.Setenv(memoryVariable, "1000")
	t.Setenv("GOMEMLIMIT", "1GiB")
	if err := limitMemory(); err != nil || debug.SetMemoryLimit(-1) != 214748360 {
		t.Errorf("GOMEMLIMIT is set, so the runtime has read it already: %v, limit %d", err, debug.SetMemoryLimit(-1))
	}
	t.Setenv("GOMEMLIMIT", "")
	t.Setenv(memoryVariable, "0")
	if err := limitMemory(); err != nil || debug.SetMemoryLimit(-1) != 214748360 {
		t.Errorf("there is no limit: %v, limit %d", err, debug.SetMemoryLimit(-1))
	}
	t.Setenv(memoryVariable, "256Mi")
	if err := limitMemory(); err == nil || !strings.Contains(err.Error(), `"256Mi"`) {
		t.Errorf("got %v", err)
	}
}
