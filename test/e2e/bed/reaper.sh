# Removes what the beds of a process have made, once that process is gone, however it went: its end
# closes standard input. Started with the process's id and its directory of temporary files.
set -u
process=$1 temporary=$2
read -r _ # the end

devices() { ls /sys/class/net | grep -E "^rtls${process}(f|x[0-9]+)$"; }
namespaces() { ls /run/netns /etc/netns 2>/dev/null | grep "^rtls$process-" | sort -u; }
directories() { ls -d "$temporary/redis-tls-$process-"* 2>/dev/null; }

# What is being killed may hold on to something for a moment.
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
rmdir /etc/netns # fails while it has something of others
