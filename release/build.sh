#!/bin/sh
# Builds the webhook of the image into the given file, for $TARGETOS and $TARGETARCH. The binary is static, and the same
# version of Go gives the same bytes. `webhook version` prints $VERSION and $REVISION.
set -eu
cd "$(dirname "$0")/.."
export CGO_ENABLED=0 GOOS="$TARGETOS" GOARCH="$TARGETARCH"
# The settings of Go on this machine must not affect the image.
export GOENV=off GOFLAGS=-mod=readonly GOWORK=off GOEXPERIMENT= GOAMD64=v1 GOARM64=v8.0
exec go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION -X main.revision=$REVISION" -o "$1" ./cmd/webhook
