#!/bin/sh
# Builds a command of cmd/ into the given file, whose name is that of the command, for $TARGETOS and $TARGETARCH. The
# binary is static, and the same version of Go gives the same bytes. `webhook version` and `redis-tls version` print
# $VERSION and $REVISION.
set -eu
cd "$(dirname "$0")/.."
export CGO_ENABLED=0 GOOS="$TARGETOS" GOARCH="$TARGETARCH"
# The settings of Go on this machine must not affect the result.
export GOENV=off GOFLAGS=-mod=readonly GOWORK=off GOEXPERIMENT= GOAMD64=v1 GOARM64=v8.0
exec go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION -X main.revision=$REVISION" \
	-o "$1" "./cmd/$(basename "$1")"
