#!/bin/sh
# Runs `go build` with the arguments given, in the working directory, and says every 15 seconds how far it
# has come: a cold build takes minutes. The last argument is the package pattern.
set -eu
for package; do :; done
log=$(mktemp)
trap 'rm -f "$log"' EXIT
total=$(go list -deps "$package" | wc -l)
go build -v -buildvcs=false "$@" 2>"$log" &
build=$!
trap 'kill "$build" 2>/dev/null || true; rm -f "$log"' EXIT
trap 'exit 1' INT TERM
seconds=0
while kill -0 "$build" 2>/dev/null; do
	sleep 1
	seconds=$((seconds + 1))
	if [ $((seconds % 15)) = 0 ]; then
		echo "  compiling for $seconds s: $(wc -l <"$log") packages (of $total, less those that the build cache has)"
	fi
done
if ! wait "$build"; then
	cat "$log" >&2
	exit 1
fi
