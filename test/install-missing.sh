#!/bin/sh
# Installs the Debian packages of missing commands. Arguments: "command:package ...".
# It tries all of them, and fails at the end if a command is still missing.
set -eu
without= updated=
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 1' INT TERM

install() { # PACKAGE...
	[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
	echo "installing $*"
	# The tests start these servers themselves. As services they would only take ports of this machine.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		trap 'rm -f "$log" "$policy"' EXIT
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
	fi
	# If the lists cannot be updated, the installation reports it.
	[ "$updated" ] || apt-get update -qq >/dev/null 2>&1 || true
	updated=yes
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >"$log" 2>&1
}

for wanted; do
	name=${wanted%%:*} packages=${wanted#*:}
	if command -v "$name" >/dev/null; then
		continue
	fi
	# shellcheck disable=SC2086 # several packages
	if ! install $packages || ! command -v "$name" >/dev/null; then
		cat "$log" >&2
		without="$without
  $name (package $packages)"
	fi
done
if [ "$without" ]; then
	echo "These commands are missing; install them, or run this as root on a system with apt-get:$without" >&2
	exit 1
fi
