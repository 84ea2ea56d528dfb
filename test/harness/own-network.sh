#!/bin/sh
# Runs a command where it may make network devices: as root directly, as anybody else in a user and
# network namespace of its own (which the command leaves nothing behind in). Made for
#   go test -exec "$PWD/test/harness/own-network.sh" ./test/...
set -eu
if [ "$(id -u)" = 0 ]; then
	exec "$@"
fi
if ! unshare --user --map-root-user --net true 2>/dev/null; then
	echo "The tests make a veth pair, so that the kube-apiserver reaches the webhook through its Service." >&2
	echo "You may not, and this system gives users no namespaces of their own (unshare -Urn): run as root." >&2
	exit 1
fi
exec unshare --user --map-root-user --net sh -c 'ip link set lo up && exec "$@"' sh "$@"
