package patches

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/redis-tls/redis-tls/internal/origination"
)

// proxyID is the user and group of istio-proxy unless something else is said (GetProxyIDs,
// pkg/kube/inject/inject.go; istio-cni's defaults).
const proxyID = "1337"

// proxyUsers finds app containers whose traffic is not captured for who they run as: the user and
// group of istio-proxy, and groups that are left out. The group is the primary one: iptables'
// --gid-owner does not look at supplementary groups, so fsGroup does not matter.
func proxyUsers(pod *corev1.Pod, cs []capture) (problems []origination.Problem) {
	uids, gids := []string{proxyID}, []string{proxyID}
	for _, c := range cs {
		uids = append(uids, split(c.uids.value)...)
		if gids = append(gids, split(c.gids.value)...); c.gids.value == "" {
			gids = append(gids, split(c.uids.value)...) // FillConfigFromEnvironment, tools/common/config
		}
	}
	if hasSidecar(pod) { // a placeholder's are not final: on OpenShift every container gets the app's
		for _, c := range proxies(pod) {
			user, group := effective(&corev1.Pod{}, c)
			uids, gids = append(uids, user.value), append(gids, group.value) // istio-cni takes these
		}
	}
	for _, c := range containers(pod) {
		if c.istios() {
			continue
		}
		user, group := effective(pod, c)
		problems = append(problems, asProxy("user", "runAsUser", c, user, uids)...)
		problems = append(problems, asProxy("group", "runAsGroup", c, group, gids)...)
		for _, capture := range cs {
			problems = append(problems, leftOut(capture, c, group)...)
		}
	}
	return problems
}

// effective returns the user and group that the container is made to run as. The container's
// securityContext wins over the pod's; empty values say that the image decides.
func effective(pod *corev1.Pod, c container) (user, group setting) {
	set := func(s *setting, at *field.Path, name string, id *int64) {
		if id != nil {
			s.at, s.value = at.Child("securityContext", name), strconv.FormatInt(*id, 10)
		}
	}
	if sc := pod.Spec.SecurityContext; sc != nil {
		set(&user, specPath, "runAsUser", sc.RunAsUser)
		set(&group, specPath, "runAsGroup", sc.RunAsGroup)
	}
	if sc := c.SecurityContext; sc != nil {
		set(&user, c.at, "runAsUser", sc.RunAsUser)
		set(&group, c.at, "runAsGroup", sc.RunAsGroup)
	}
	return user, group
}

// asProxy judges one id. Root is never exempt: istio-init and istio-cni do not take it for the proxy's.
func asProxy(what, name string, c container, id setting, exempt []string) []origination.Problem {
	if id.value == "" || id.value == "0" || !slices.Contains(exempt, id.value) {
		return nil
	}
	return []origination.Problem{invalid(origination.ReasonBypass, id.at, id.value, fmt.Sprintf(
		"container %q runs as the %s of istio-proxy, whose traffic is not captured, so its own would go around the sidecar; give it another %s", c.Name, what, name))}
}

// leftOut judges the groups to which the capture is limited; exceptions count only where all groups are
// captured (ParseInterceptFilter, tools/common/config/types.go).
func leftOut(of capture, c container, group setting) []origination.Problem {
	if only := of.onlyGroups; only.at != nil && only.value != "*" {
		if slices.Contains(split(only.value), group.value) {
			return nil
		}
		return []origination.Problem{invalid(origination.ReasonBypass, only.at, only.text(), fmt.Sprintf(
			"only traffic of these groups is captured, and container %q is not known to run as one of them; remove the setting or set runAsGroup", c.Name))}
	}
	if except := of.exceptGroups; group.value != "" && slices.Contains(split(except.value), group.value) {
		return []origination.Problem{invalid(origination.ReasonBypass, except.at, except.text(), fmt.Sprintf(
			"traffic of group %s is not captured, and container %q runs as it; remove the setting or set another runAsGroup", group.value, c.Name))}
	}
	return nil
}
