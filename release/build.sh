#!/bin/sh
# Builds the webhook of the image into the file given, for $TARGETOS and $TARGETARCH: static, and of the same bytes
# wherever it is built with the same Go. $VERSION and $REVISION are what `webhook version` prints.
set -eu
cd "$(dirname "$0")/.."
export CGO_ENABLED=0 GOOS="$TARGETOS" GOARCH="$TARGETARCH"
# The settings of this machine's Go are none of the image's.
export GOENV=off GOFLAGS=-mod=readonly GOWORK=off GOEXPERIMENT= GOAMD64=v1 GOARM64=v8.0
exec go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION -X main.revision=$REVISION" -o "$1" ./cmd/webhook
