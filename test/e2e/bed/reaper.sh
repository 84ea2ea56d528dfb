# Removes what the beds of a process have made, once the process has ended: that closes standard input. The arguments are
# the process id and its directory of temporary files.
set -u
process=$1 temporary=$2
read -r _ # the end

devices() { ls /sys/class/net | grep -E "^rtls${process}(f|x[0-9]+)$"; }
namespaces() { ls /run/netns /etc/netns 2>/dev/null | grep "^rtls$process-" | sort -u; }
directories() { ls -d "$temporary/redis-tls-$process-"* 2>/dev/null; }

# A killed process may hold a namespace or a file for a moment.
for _ in $(seq 100); do
	for name in $(namespaces); do
		for p in $(ip netns pids "$name" 2>/dev/null); do
			kill -KILL "$p"
		done
		ip netns delete "$name"
		rm -rf "/etc/netns/$name"
	done
	for name in $(devices); do
		ip link delete "$name"
	done
	directories | xargs -r -d '\n' rm -rf
	[ -n "$(namespaces)$(devices)$(directories)" ] || break
	sleep 0.1
done
rmdir /etc/netns # fails if it contains files of others
