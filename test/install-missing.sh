#!/bin/sh
# Installs the Debian packages of commands that are missing, quietly. Arguments: "command:package ...".
# It tries them all, and fails at the end where a command could not be had.
set -eu
without= updated=
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 1' INT TERM

install() { # PACKAGE...
	[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
	echo "installing $*"
	# Whoever needs these servers runs them: as services they would only take ports of this machine.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		trap 'rm -f "$log" "$policy"' EXIT
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
	fi
	# What the lists of a fresh machine lack the installation says.
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
	echo "These commands are missing, and only root can install them, where there is apt-get:$without" >&2
	exit 1
fi
