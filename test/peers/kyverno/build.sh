#!/bin/sh
# Builds Kyverno's admission controller and background controller into the given directory, and copies Kyverno's chart
# and CustomResourceDefinitions there.
set -eu
out=$1
cd "$(dirname "$0")"
version=$(sed -n 's|^[[:space:]]*github.com/kyverno/kyverno \(v[0-9.]*\).*|\1|p' go.mod)

echo "peer: Kyverno $version (once; about 5 minutes)"
mkdir -p "$out"
../../go-build.sh -trimpath -ldflags '-s -w' -o "$out/" \
	github.com/kyverno/kyverno/cmd/kyverno github.com/kyverno/kyverno/cmd/background-controller
module=$(go list -m -f '{{.Dir}}' github.com/kyverno/kyverno)
rm -rf "$out/chart" "$out/crds"
cp -r "$module/charts/kyverno" "$out/chart"
mkdir "$out/crds"
find "$module/config/crds" -name '*.yaml' -exec cp {} "$out/crds/" \;
chmod -R u+w "$out"
echo "  done: $out"
