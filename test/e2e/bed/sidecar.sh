# Runs pilot-agent in a root directory like that of the proxy's image. It must be started as root and as the first process
# of its own mount and process namespaces, so that all processes in them end with it.
set -eu
root=$1 files=$2 roots=$3 agent=$4 envoy=$5 bootstrap=$6 mounts=$7 user=$8 group=$9
shift 9

mount -t tmpfs -o mode=0755 tmpfs "$root"
for name in bin sbin lib lib32 lib64 libx32 usr; do
	if [ -L "/$name" ]; then
		cp -d "/$name" "$root/$name"
	elif [ -d "/$name" ]; then
		mkdir "$root/$name"
		mount --rbind "/$name" "$root/$name"
	fi
done
mkdir "$root/dev" "$root/proc" "$root/tmp"
chmod 1777 "$root/tmp"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"

file() { # SOURCE PATH: the file, in place
	mkdir -p "$(dirname "$root$2")"
	touch "$root$2"
	mount --bind "$1" "$root$2"
}
mount -t tmpfs -o mode=0755 tmpfs "$root/usr/local/bin"
file "$agent" /usr/local/bin/pilot-agent
file "$envoy" /usr/local/bin/envoy
file "$bootstrap" /var/lib/istio/envoy/envoy_bootstrap_tmpl.json
file "$roots" /etc/ssl/certs/ca-certificates.crt
file "$files/hosts" /etc/hosts
file "$files/resolv.conf" /etc/resolv.conf
echo "hosts: files dns" >"$root/etc/nsswitch.conf"
echo "istio-proxy:x:$user:$group::/:/bin/false" >"$root/etc/passwd"

echo "$mounts" | while read -r from to mode; do
	[ -n "$from" ] || continue
	mkdir -p "$root$to"
	mount --bind "$from" "$root$to"
	[ "$mode" = rw ] || mount -o remount,bind,ro "$root$to"
done

# Envoy opens its access log as /dev/stdout, which is allowed in a container.
chmod a+w /dev/stdout

cd "$root"
chroot "$root" setpriv --reuid "$user" --regid "$group" --clear-groups pilot-agent "$@" &
trap 'kill $! 2>/dev/null || true' TERM INT
wait $!
