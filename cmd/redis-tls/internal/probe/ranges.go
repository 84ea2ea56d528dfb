package probe

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// portRanges writes ports as redis-tls/port: sorted, with ranges.
func portRanges(ports []uint16) string {
	ports = slices.Clone(ports)
	slices.Sort(ports)
	ports = slices.Compact(ports)
	var parts []string
	for i := 0; i < len(ports); {
		j := i
		for j+1 < len(ports) && ports[j+1] == ports[j]+1 {
			j++
		}
		if j > i {
			parts = append(parts, fmt.Sprintf("%d-%d", ports[i], ports[j]))
		} else {
			parts = append(parts, strconv.Itoa(int(ports[i])))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// digits are the numbers of a name.
var digits = regexp.MustCompile(`[0-9]{1,6}`)

// nameRanges writes names as redis-tls/nodes. Names that differ in one number become a range, and ranges that differ in
// one number become one with two: redis-{0..2}.example.com, cart-{0001..0002}-{001..002}.example.com.
func nameRanges(names []string) string {
	patterns := slices.Clone(names)
	slices.Sort(patterns)
	patterns = slices.Compact(patterns)
	for merged := true; merged; {
		patterns, merged = mergeNumbers(patterns)
	}
	return strings.Join(patterns, ",")
}

// mergeNumbers merges the largest group of patterns that differ in one number, if their numbers are consecutive.
func mergeNumbers(patterns []string) (result []string, merged bool) {
	groups := map[string]map[int]string{} // the text with a mark for the number, its numbers and their patterns
	for _, pattern := range patterns {
		for _, at := range digits.FindAllStringIndex(pattern, -1) {
			if inRange(pattern, at[0]) {
				continue
			}
			number, _ := strconv.Atoi(pattern[at[0]:at[1]]) // digits
			width := at[1] - at[0]
			if width == 1 || pattern[at[0]] != '0' {
				width = 0 // no leading zero: 9 and 10 are one range
			}
			mark := fmt.Sprintf("%s\x00%d\x00%s", pattern[:at[0]], width, pattern[at[1]:])
			if groups[mark] == nil {
				groups[mark] = map[int]string{}
			}
			groups[mark][number] = pattern
		}
	}
	best, from, to := "", 0, 0
	for mark, numbers := range groups {
		first, last := consecutive(numbers)
		if n := last - first; n > to-from || n == to-from && n > 0 && mark < best {
			best, from, to = mark, first, last
		}
	}
	if best == "" {
		return patterns, false
	}
	for _, pattern := range patterns {
		if n := slices.IndexFunc(numbersOf(from, to), func(n int) bool { return groups[best][n] == pattern }); n < 0 {
			result = append(result, pattern)
		}
	}
	parts := strings.Split(best, "\x00")
	width, _ := strconv.Atoi(parts[1])
	return append(result, fmt.Sprintf("%s{%0*d..%0*d}%s", parts[0], width, from, width, to, parts[2])), true
}

// consecutive returns the longest series of numbers without a gap.
func consecutive(numbers map[int]string) (first, last int) {
	for n := range numbers {
		end := n
		for numbers[end+1] != "" {
			end++
		}
		if end-n > last-first || end-n == last-first && n < first {
			first, last = n, end
		}
	}
	return first, last
}

func numbersOf(from, to int) (all []int) {
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}

// inRange reports whether the text at the index is within braces.
func inRange(pattern string, at int) bool {
	return strings.LastIndexByte(pattern[:at], '{') > strings.LastIndexByte(pattern[:at], '}')
}
