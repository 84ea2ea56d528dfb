#!/bin/sh
# Builds the test control plane into the given directory: one binary, and a link to it for each component. With a second
# argument, a version of Kubernetes, it is that version with the etcd and the Go settings that Kubernetes requires.
set -eu
out=$1
cd "$(dirname "$0")"
build=$PWD/../go-build.sh
version=$(sed -n 's|^[[:space:]]*k8s.io/kubernetes ||p' go.mod)
mkdir -p "$out"
if [ "${2:-$version}" != "$version" ]; then
	version=$2
	file=$(go list -m -f '{{.GoMod}}' "k8s.io/kubernetes@$version")
	mkdir -p "$out/module"
	cp main.go "$out/module/"
	cd "$out/module"
	# Kubernetes requires its own modules in version v0.0.0, and replaces them by directories. Here they are releases.
	{
		echo "module controlplane"
		sed -n '/^go /p' "$file"
		echo "require k8s.io/kubernetes $version"
		sed -n "s|^[[:space:]]*\(k8s.io/[a-z-]*\) v0\.0\.0\( // indirect\)*\$|require \1 v0.${version#v1.}|p" "$file"
	} >go.mod
	export GOFLAGS=-mod=mod
	go mod download go.etcd.io/etcd/server/v3
fi
minor=${version#v1.}
minor=${minor%%.*}
package=k8s.io/component-base/version
# Without a version, clients cannot parse the answers of the API server.
ldflags="-s -w -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$minor -X $package.gitTreeState=clean"

echo "test control plane: Kubernetes $version, etcd $(go list -m -f '{{.Version}}' go.etcd.io/etcd/server/v3) (once; some minutes)"
"$build" -trimpath -ldflags "$ldflags" -o "$out/controlplane" .
for name in etcd kube-apiserver kube-controller-manager kubectl; do
	ln -sf controlplane "$out/$name"
done
echo "  done: $out"
