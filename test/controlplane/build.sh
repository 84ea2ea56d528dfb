#!/bin/sh
# Builds the test control plane into the directory given: one binary, and a link to it for each
# component. Prints how far it has come, since a cold build takes some minutes.
set -eu
out=$1
cd "$(dirname "$0")"
version=$(sed -n 's|^[[:space:]]*k8s.io/kubernetes ||p' go.mod)
minor=${version#v1.}
minor=${minor%%.*}
package=k8s.io/component-base/version
# Without a version, clients cannot parse what the API server answers.
ldflags="-s -w -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$minor -X $package.gitTreeState=clean"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "Kubernetes $version, etcd $(sed -n 's|^[[:space:]]*go.etcd.io/etcd/server/v3 ||p' go.mod): downloading the modules"
total=$(GOWORK=off go list -deps . | wc -l)
mkdir -p "$out"
GOWORK=off go build -v -buildvcs=false -trimpath -ldflags "$ldflags" -o "$out/controlplane" . 2>"$log" &
build=$!
trap 'kill "$build" 2>/dev/null || true; rm -f "$log"' EXIT
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
for name in etcd kube-apiserver kube-controller-manager kubectl; do
	ln -sf controlplane "$out/$name"
done
echo "  done: $out"
