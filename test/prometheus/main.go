// Command prometheus checks PromQL against exported metrics. It reads expressions, a JSON list of strings, from its
// input, and expositions from the given files. It prints each selector that no series of theirs matches. It ignores
// matchers on the labels of -target, which Prometheus adds when it scrapes. It uses Prometheus' own parser and
// matchers.
//
// The module has promtool as its tool.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	target := flag.String("target", "job,instance", "labels that a scrape adds")
	flag.Parse()
	if err := run(strings.Split(*target, ","), flag.Args(), os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(target, files []string, in io.Reader) error {
	var expressions []string
	if err := json.NewDecoder(in).Decode(&expressions); err != nil {
		return fmt.Errorf("reading the expressions: %w", err)
	}
	var series []labels.Labels
	for _, file := range files {
		found, err := read(file)
		if err != nil {
			return err
		}
		series = append(series, found...)
	}
	if len(expressions) == 0 || len(series) == 0 {
		return fmt.Errorf("%d expressions and %d series: nothing to compare", len(expressions), len(series))
	}
	var errs []error
	for _, text := range expressions {
		errs = append(errs, check(text, target, series)...)
	}
	return errors.Join(errs...)
}

// read returns the series of an exposition in Prometheus' text format.
func read(file string) ([]labels.Labels, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []labels.Labels
	p := textparse.NewPromParser(content, labels.NewSymbolTable(), false)
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("parsing %s: %w", file, err)
		}
		if entry == textparse.EntrySeries {
			var l labels.Labels
			p.Labels(&l)
			all = append(all, l)
		}
	}
}

// check returns the selectors of the expression that no series matches.
func check(text string, target []string, series []labels.Labels) []error {
	expression, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		return []error{fmt.Errorf("%s: %w", text, err)}
	}
	var errs []error
	for _, selector := range parser.ExtractSelectors(expression) {
		wanted := slices.DeleteFunc(slices.Clone(selector), func(m *labels.Matcher) bool {
			return slices.Contains(target, m.Name)
		})
		if !slices.ContainsFunc(series, func(l labels.Labels) bool { return matches(l, wanted) }) {
			errs = append(errs, fmt.Errorf("%s: nothing is exported that matches %v", text, wanted))
		}
	}
	return errs
}

func matches(l labels.Labels, all []*labels.Matcher) bool {
	return !slices.ContainsFunc(all, func(m *labels.Matcher) bool { return !m.Matches(l.Get(m.Name)) })
}
