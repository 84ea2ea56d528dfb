package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
)

// memoryVariable is the environment variable with the container's memory limit in bytes (the downward API).
const memoryVariable = "MEMORY_LIMIT"

// limitMemory has the garbage collector work harder before the container's limit is reached. The rest is for what
// Go does not count: the binary's own pages. GOMEMLIMIT, where it is set, goes before.
func limitMemory() error {
	text := os.Getenv(memoryVariable)
	if text == "" || text == "0" || os.Getenv("GOMEMLIMIT") != "" { // 0: no limit
		return nil
	}
	limit, err := strconv.ParseInt(text, 10, 64)
	if err != nil || limit < 0 {
		return fmt.Errorf("the environment variable %s is %q, and must hold a number of bytes", memoryVariable, text)
	}
	debug.SetMemoryLimit(limit / 10 * 8)
	return nil
}
