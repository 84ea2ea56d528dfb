#!/bin/sh
# Runs `make integration` with each version of Kubernetes in $KUBERNETES, and `make e2e` with each "ISTIO/ENVOY" in $MESHES.
# ISTIO is a version of the module istio.io/istio. $RUN selects tests. A test that is skipped is listed with its reason.
# It exits 1 if a combination has a failure.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
out=$root/bin/matrix
mkdir -p "$out"
rm -f "$out"/*.log
table=$out/table.txt
printf '%-52s %7s %7s %7s\n' combination passed failed skipped >"$table"
failures=0

# count STATUS LOG: the number of tests, not of their cases, with that status.
count() { grep -c "^--- $1: " "$2" || true; }

# combination NAME LOG COMMAND...: prints a line and adds it to the table. Tests that failed and were skipped follow.
combination() {
	name=$1 log=$2
	shift 2
	echo "$name: running; its output is in $log"
	status=0
	"$@" >"$log" 2>&1 || status=$?
	line=$(printf '%-52s %7s %7s %7s' "$name" "$(count PASS "$log")" "$(count FAIL "$log")" "$(count SKIP "$log")")
	if [ "$status" != 0 ]; then
		failures=1
		# A build that failed, or a test binary that ended, has no failed test.
		line="$line  exit status $status"
	fi
	echo "$line" | tee -a "$table"
	awk '/^--- FAIL: / {print "  failed: " $3} /_test\.go:[0-9]+: / {reason = $0; sub(/^.*_test\.go:[0-9]+: /, "", reason)}
		/^--- SKIP: / {print "  skipped: " $3 ": " reason}' "$log" | tee -a "$table"
}

# integration VERSION: the tests with a control plane of that version.
integration() {
	assets=$root/bin/controlplane-$1
	# The harness replaces missing components by those of test/controlplane/go.mod, so a build that fails ends this.
	[ -e "$assets/kubectl" ] || test/controlplane/build.sh "$assets" "$1" || return
	GOFLAGS=-v KUBEBUILDER_ASSETS=$assets make --no-print-directory integration RUN="${RUN:-}"
}

# wire ISTIO ENVOY: the tests with these. The directory of the combination has links to the files of that Istio.
wire() {
	mesh=$root/bin/mesh-$1
	[ -e "$mesh/pilot-agent" ] || test/mesh/build.sh "$mesh" "$1" || return
	assets=$out/mesh-$1-envoy-$2
	[ -e "$assets/envoy" ] || test/mesh/envoy.sh "$assets" "$2" || return
	for file in "$mesh"/*; do
		[ "${file##*/}" = envoy ] || ln -sfn "$file" "$assets/${file##*/}"
	done
	MESH_ASSETS=$assets E2E=required make --no-print-directory e2e RUN="${RUN:-}"
}

for version in $KUBERNETES; do
	combination "Kubernetes $version" "$out/kubernetes-$version.log" integration "$version"
done
for pair in $MESHES; do
	istio=${pair%/*} envoy=${pair#*/}
	combination "Istio ${istio#v0.0.0-}, Envoy $envoy" "$out/istio-$istio-envoy-$envoy.log" wire "$istio" "$envoy"
done
echo
cat "$table"
exit "$failures"
