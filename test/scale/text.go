package main

import (
	"fmt"
	"strconv"
	"strings"
)

// sum adds up all samples of a metric in Prometheus' text format.
func sum(text, metric string) (total float64) {
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(line, metric)
		if !found || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		words := strings.Fields(rest[strings.LastIndexByte(rest, '}')+1:])
		if len(words) == 0 {
			continue
		}
		if value, err := strconv.ParseFloat(words[0], 64); err == nil {
			total += value
		}
	}
	return total
}

// field returns the number after the prefix of a line.
func field(text, begins string) (int64, error) {
	for line := range strings.Lines(text) {
		rest, found := strings.CutPrefix(line, begins)
		if words := strings.Fields(rest); found && len(words) > 0 {
			return strconv.ParseInt(words[0], 10, 64)
		}
	}
	return 0, fmt.Errorf("no line begins with %q", begins)
}
