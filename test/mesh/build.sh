#!/bin/sh
# Builds istiod, pilot-agent and the tools on Istio's packages into the given directory: one binary, and a link to it for
# each of them. It copies Istio's charts and Envoy bootstrap there too. With a second argument, a version of the module
# istio.io/istio, it is that version with the modules that Istio requires.
set -eu
out=$1
cd "$(dirname "$0")"
build=$PWD/../go-build.sh
module=$(sed -n 's|^[[:space:]]*istio.io/istio ||p' go.mod)
mkdir -p "$out"
if [ "${2:-$module}" != "$module" ]; then
	go mod download "istio.io/istio@$2"
	source=$(go list -m -f '{{.Dir}}' "istio.io/istio@$2")
	mkdir -p "$out/module"
	cp main.go ads.go analyze.go "$out/module/"
	cd "$out/module"
	{
		echo "module mesh"
		sed -n '/^go /p' "$source/go.mod"
		echo "require istio.io/istio $2"
	} >go.mod
	cat "$source/go.sum" >go.sum # not every version that Istio requires is in the public checksum database
	export GOFLAGS=-mod=mod
	go mod download istio.io/istio istio.io/api
fi
# Istio's releases have no module version. Its API has the version of the release.
api=$(go list -m -f '{{if .Replace}}{{.Replace.Version}}{{else}}{{.Version}}{{end}}' istio.io/api)
version=${api#v}
version=${version%%-*}

echo "test mesh: Istio $version (once; some minutes)"
"$build" -trimpath -ldflags "-s -w -X istio.io/istio/pkg/version.buildVersion=$version" -o "$out/mesh" .
for name in istiod pilot-agent adsdump istio-analyze; do
	ln -sf mesh "$out/$name"
done
source=$(go list -m -f '{{.Dir}}' istio.io/istio)
rm -rf "$out/charts"
cp -r "$source/manifests/charts" "$out/charts"
cp -f "$source/tools/packaging/common/envoy_bootstrap.json" "$out/"
chmod -R u+w "$out"
echo "  done: $out"
