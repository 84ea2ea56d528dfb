#!/bin/sh
# Writes the sources of a release's webhook and its chart, as of the tag given, as an archive to standard output: what
# the upgrade test builds the release from, in a checkout that may have no history.
set -eu
cd "$(dirname "$0")/.."
git archive "$1" -- go.mod go.sum charts '*.go' ':(exclude,glob)**/*_test.go' ':(exclude,glob)**/*test/**' \
	':(exclude,glob)internal/*/internal/**' ':(exclude)test' ':(exclude)release' ':(exclude)cmd/redis-tls' | gzip -9n
