#!/bin/sh
# Builds the test control plane into the given directory: one binary, and a link to it for each component.
set -eu
out=$1
cd "$(dirname "$0")"
version=$(sed -n 's|^[[:space:]]*k8s.io/kubernetes ||p' go.mod)
minor=${version#v1.}
minor=${minor%%.*}
package=k8s.io/component-base/version
# Without a version, clients cannot parse the answers of the API server.
ldflags="-s -w -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$minor -X $package.gitTreeState=clean"

echo "test control plane: Kubernetes $version, etcd $(sed -n 's|^[[:space:]]*go.etcd.io/etcd/server/v3 ||p' go.mod) (once; some minutes)"
mkdir -p "$out"
../go-build.sh -trimpath -ldflags "$ldflags" -o "$out/controlplane" .
for name in etcd kube-apiserver kube-controller-manager kubectl; do
	ln -sf controlplane "$out/$name"
done
echo "  done: $out"
