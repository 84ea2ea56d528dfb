package sidecar

import (
	"path"
	"strings"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// hostsFile is where resolvers read the host aliases of a pod.
const hostsFile = "/etc/hosts"

// checkHosts refuses containers that mount their own hosts file, if a host is pinned. The kubelet then does not mount
// the file with the aliases (makeMounts, k8s.io/kubernetes pkg/kubelet/kubelet_pods.go), so the name resolves to the
// server, past the VIP.
//
// The kubelet compares the path literally. For "/etc/hosts/" it adds its mount to the user's, and the container
// runtime decides which of the two is on top, so such a path is refused as well. A mount of /etc is not: the kubelet
// adds its file, and the runtime mounts it later, inside (orderedMounts in containerd and CRI-O: fewer parts first).
func (p *Pod) checkHosts(f *findings, originations []origination.Origination) {
	for i := range p.apps {
		c := &p.apps[i]
		for j := range c.VolumeMounts {
			m := &c.VolumeMounts[j]
			if !strings.Contains(m.MountPath, "hosts") || path.Clean("/"+m.MountPath) != hostsFile {
				continue
			}
			pinned := pinnedHosts(originations)
			if len(pinned) == 0 {
				return
			}
			f.refuse(origination.ReasonPodConflict, c.Path().Child("volumeMounts").Index(j).Child("mountPath"), m.MountPath,
				"container %q mounts volume %q over /etc/hosts, so the kubelet writes no host alias for %s "+
					"and it is reached without TLS. Remove the mount and write its entries into spec.hostAliases",
				c.Name, m.Name, strings.Join(pinned, ", "))
		}
	}
}

// pinnedHosts returns the hosts that resolve to a VIP.
func pinnedHosts(originations []origination.Origination) (hosts []string) {
	for i := range originations {
		if originations[i].Pinned() {
			hosts = append(hosts, originations[i].Host)
		}
	}
	return hosts
}
