package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
)

// memoryVariable is the environment variable with the container's memory limit in bytes, from the downward API.
const memoryVariable = "MEMORY_LIMIT"

// gcPercent is the garbage that the heap may gain between two collections, in percent of what is live. Most of the heap
// is caches, so Go's default of 100 % would be as much again. GOGC has precedence.
const gcPercent = 50

// limitGarbage sets how much garbage the heap may have.
func limitGarbage() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// limitMemory sets Go's memory limit to 80 % of the container's. The rest is for memory that Go does not count, such as
// the binary. GOMEMLIMIT has precedence.
func limitMemory() error {
	text := os.Getenv(memoryVariable)
	if text == "" || text == "0" || os.Getenv("GOMEMLIMIT") != "" { // 0: no limit
		return nil
	}
	limit, err := strconv.ParseInt(text, 10, 64)
	if err != nil || limit < 0 {
		return fmt.Errorf("the environment variable %s must be a number of bytes, got %q", memoryVariable, text)
	}
	debug.SetMemoryLimit(limit / 10 * 8)
	return nil
}
