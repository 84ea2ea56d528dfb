#!/bin/sh
# Runs a command where it may create network devices: as root directly, as another user in a new user and network
# namespace. Use it with
#   go test -exec "$PWD/test/harness/own-network.sh" ./test/...
set -eu
if [ "$(id -u)" = 0 ]; then
	exec "$@"
fi
if ! unshare --user --map-root-user --net true 2>/dev/null; then
	echo "The tests create a veth pair, so that kube-apiserver reaches the webhook through its Service." >&2
	echo "This user may not do so, and cannot create user namespaces (unshare -Urn); run this as root." >&2
	exit 1
fi
exec unshare --user --map-root-user --net sh -c 'ip link set lo up && exec "$@"' sh "$@"
