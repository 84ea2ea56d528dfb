package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// selection says which mutants to run.
type selection struct {
	tier    string         // one of tiers, or "all"
	only    *regexp.Regexp // matches the name
	changed bool           // only those whose file or entry differs from main
}

// of returns the selected mutants. An empty selection is an error unless nothing has changed.
func (s selection) of(ctx context.Context, all []mutant) ([]mutant, error) {
	if s.tier != "all" && !slices.Contains(tiers, s.tier) {
		return nil, fmt.Errorf("-tier must be unit, integration, e2e or all, got %q", s.tier)
	}
	var selected []mutant
	for _, m := range all {
		if (s.tier == "all" || m.Tier == s.tier) && s.only.MatchString(m.label()) {
			selected = append(selected, m)
		}
	}
	if len(selected) == 0 {
		return nil, fmt.Errorf("no mutant of tier %q has a name that matches %q, of %d", s.tier, s.only, len(all))
	}
	if !s.changed {
		return selected, nil
	}
	d, err := differences(ctx)
	if err != nil {
		return nil, err
	}
	selected = d.among(selected)
	fmt.Printf("%d mutants have a file or an entry that differs from %s\n", len(selected), d.base)
	return selected, nil
}

// difference is what the working tree changes.
type difference struct {
	base    string   // the commit that it is compared with
	files   []string // committed, uncommitted and untracked
	mutants []mutant // as they were
}

// among returns the mutants whose file or entry has changed.
func (d difference) among(all []mutant) (changed []mutant) {
	for _, m := range all {
		if slices.Contains(d.files, m.File) || !slices.Contains(d.mutants, m) {
			changed = append(changed, m)
		}
	}
	return changed
}

// differences compares the working tree with the commit where its branch left main. On main it compares with
// origin/main, or with HEAD~1 if there is no origin/main.
func differences(ctx context.Context) (difference, error) {
	git := func(args ...string) (string, error) {
		var stderr bytes.Buffer
		c := exec.CommandContext(ctx, "git", args...)
		c.Stderr = &stderr
		out, err := c.Output()
		if err != nil {
			return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
		}
		return string(out), nil
	}
	branch, err := git("rev-parse", "--abbrev-ref", "HEAD")
	if err != nil {
		return difference{}, err
	}
	candidates := []string{"main", "origin/main", "HEAD~1"}
	if strings.TrimSpace(branch) == "main" {
		candidates = candidates[1:]
	}
	var d difference
	for _, candidate := range candidates {
		var base string
		if base, err = git("merge-base", "HEAD", candidate); err == nil {
			d.base = strings.TrimSpace(base)
			break
		}
	}
	if err != nil {
		return difference{}, err
	}
	for _, list := range [][]string{
		{"diff", "--name-only", "-z", d.base},
		{"ls-files", "--others", "--exclude-standard", "-z"},
	} {
		names, err := git(list...)
		if err != nil {
			return difference{}, err
		}
		d.files = append(d.files, strings.Split(names, "\x00")...)
	}
	if was, err := git("show", d.base+":"+source); err == nil {
		// If the old file does not parse, every entry counts as changed.
		d.mutants, _ = parse([]byte(was))
	}
	return d, nil
}
