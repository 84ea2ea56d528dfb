#!/bin/sh
# Builds istiod, pilot-agent and the tools on Istio's packages into the given directory: one binary, and a link to it for
# each of them. It copies Istio's charts and Envoy bootstrap there too.
set -eu
out=$1
cd "$(dirname "$0")"
# Istio's releases have no module version. Its API has the version of the release.
version=$(sed -n 's|^[[:space:]]*istio.io/api => istio.io/api v||p' go.mod)

echo "test mesh: Istio $version (once; some minutes)"
mkdir -p "$out"
../go-build.sh -trimpath -ldflags "-s -w -X istio.io/istio/pkg/version.buildVersion=$version" -o "$out/mesh" .
for name in istiod pilot-agent adsdump istio-analyze; do
	ln -sf mesh "$out/$name"
done
module=$(go list -m -f '{{.Dir}}' istio.io/istio)
rm -rf "$out/charts"
cp -r "$module/manifests/charts" "$out/charts"
cp -f "$module/tools/packaging/common/envoy_bootstrap.json" "$out/"
chmod -R u+w "$out"
echo "  done: $out"
