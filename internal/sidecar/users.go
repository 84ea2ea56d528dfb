package sidecar

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// proxyID is the default user and group of istio-proxy (GetProxyIDs, pkg/kube/inject/inject.go; istio-cni's
// defaults).
const proxyID = "1337"

// readUsers reads the user and group that the container runs as. Its own securityContext wins over the pod's.
func (c *Container) readUsers(pod *corev1.PodSecurityContext) {
	if pod != nil {
		c.user.read(specPath, "runAsUser", pod.RunAsUser)
		c.group.read(specPath, "runAsGroup", pod.RunAsGroup)
	}
	if own := c.SecurityContext; own != nil && (own.RunAsUser != nil || own.RunAsGroup != nil) {
		at := c.Path()
		c.user.read(at, "runAsUser", own.RunAsUser)
		c.group.read(at, "runAsGroup", own.RunAsGroup)
	}
}

// read takes over an id of the securityContext, if it is given.
func (s *setting) read(at *field.Path, name string, id *int64) {
	if id != nil {
		s.at, s.value = at.Child("securityContext", name), strconv.FormatInt(*id, 10)
	}
}

// exemption is why the traffic of a container is not captured: its user or group is exempt.
type exemption struct {
	setting
	cause, fix string
}

// checkUsers refuses containers whose user or group exempts their traffic from the capture.
//
// An init container may need that: Istio advises it for those that use the network before istio-proxy runs
// (istio.io/docs/setup/additional-setup/cni, "Compatibility with application init containers"). It cannot reach a VIP,
// which reaches no server without the sidecar. So it is refused only if a server has addresses, and else warned about.
func (p *Pod) checkUsers(f *findings, originations []origination.Origination) {
	users, groups := p.exemptIDs()
	for i := range p.apps {
		c := &p.apps[i]
		for _, e := range p.exemptions(c, users, groups) {
			if c.ends() && !slices.ContainsFunc(originations, hasAddresses) {
				if hosts := pinnedHosts(originations); len(hosts) > 0 {
					f.warn("%s: %q: %s, so it cannot reach %s. If it must, %s",
						e.at, e.text(), e.cause, strings.Join(hosts, ", "), e.fix)
				}
				continue
			}
			f.bypass(e.setting, "%s, so its traffic bypasses the sidecar; %s", e.cause, e.fix)
		}
	}
}

// ends reports whether the container ends before those of the app start. A native sidecar of the app does not.
func (c *Container) ends() bool {
	return c.init && (c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways)
}

// hasAddresses reports whether an app may dial the server by an address. A pinned host may have one too.
func hasAddresses(o origination.Origination) bool { return !o.Pinned() || len(o.Addresses) > 0 }

// exemptIDs returns the users and groups of istio-proxy, whose traffic is not captured.
func (p *Pod) exemptIDs() (users, groups []string) {
	users, groups = []string{proxyID}, []string{proxyID}
	for _, c := range p.captures {
		uids, gids := split(c[proxyUsers].value), split(c[proxyGroups].value)
		if c[proxyGroups].value == "" {
			gids = uids // FillConfigFromEnvironment, tools/common/config
		}
		users, groups = append(users, uids...), append(groups, gids...)
	}
	if p.Injected { // the ids of a placeholder are not final: on OpenShift every container gets the app's
		for i := range p.Proxies { // istio-cni exempts these
			users, groups = append(users, p.Proxies[i].user.value), append(groups, p.Proxies[i].group.value)
		}
	}
	return users, groups
}

// exemptions returns why the traffic of the container is not captured; none if it is. Only the primary group counts:
// --gid-owner of iptables does not match supplementary groups, so fsGroup has no effect.
func (p *Pod) exemptions(c *Container, users, groups []string) (es []exemption) {
	for _, id := range [...]struct {
		setting
		kind, name string
		exempt     []string
	}{{c.user, "user", "runAsUser", users}, {c.group, "group", "runAsGroup", groups}} {
		// Root is never exempt: istio-init and istio-cni do not accept it as the proxy's user.
		if id.value != "" && id.value != "0" && slices.Contains(id.exempt, id.value) {
			es = append(es, exemption{
				setting: id.setting,
				cause:   fmt.Sprintf("container %q runs as the %s of istio-proxy", c.Name, id.kind),
				fix:     "set another " + id.name,
			})
		}
	}
	for _, capture := range p.captures {
		if e, exempt := capture.exempts(c); exempt {
			es = append(es, e)
		}
	}
	return es
}

// exempts checks the groups that the capture is limited to (ParseInterceptFilter, tools/common/config/types.go).
func (c *capture) exempts(container *Container) (e exemption, exempt bool) {
	only, except, group := c[onlyGroups], c[exceptGroups], container.group.value
	switch {
	case only.value != "*" && !slices.Contains(split(only.value), group):
		return exemption{
			setting: only,
			cause:   fmt.Sprintf("container %q does not set runAsGroup to one of these groups", container.Name),
			fix:     "set it, or remove the setting",
		}, true
	case only.value == "*" && group != "" && slices.Contains(split(except.value), group):
		return exemption{
			setting: except,
			cause:   fmt.Sprintf("container %q runs as group %s, which is excluded", container.Name, group),
			fix:     "set another runAsGroup, or remove the setting",
		}, true
	}
	return exemption{}, false
}
