#!/bin/sh
# Runs `go build` with the given arguments in the working directory, and prints its progress every 15 seconds, because a
# cold build takes minutes.
set -eu
log=$(mktemp)
(
	seconds=0
	while sleep 15; do
		seconds=$((seconds + 15))
		downloaded=$(grep -c '^go: downloading' "$log") || true
		compiled=$(grep -vc '^go: ' "$log") || true
		echo "  after $seconds s: $downloaded modules downloaded, $compiled packages compiled"
	done
) &
progress=$!
trap 'kill "$progress" 2>/dev/null || true; rm -f "$log"' EXIT
trap 'exit 1' INT TERM
if ! go build -v -buildvcs=false "$@" 2>"$log"; then
	cat "$log" >&2
	exit 1
fi
