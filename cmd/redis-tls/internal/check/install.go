package check

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

var installChecks = []Check{
	{
		ID: "install-rights", Category: Install, Severity: Error,
		Title: "you may create the objects of the chart",
		Why:   "`helm install` stops at the first object that the API server refuses.",
		Fix:   "Install as a cluster administrator, or have one grant these rights.",
		Needs: []Source{sourceAccess},
		run: func(in *Input) Result {
			var found []string
			for _, right := range in.Lacking {
				found = append(found, "your account: "+right+": must be allowed")
			}
			return failed("", found...)
		},
	},
	{
		ID: "not-installed", Category: Install, Severity: Error,
		Title: "the cluster has no installation of redis-tls",
		Why:   "A cluster has one installation, because all have one webhook configuration.",
		Fix:   "Upgrade the existing installation: `helm upgrade`.",
		Needs: []Source{sourceDeployments, sourceWebhooks},
		run:   checkNotInstalled,
	},
	{
		ID: "gke-firewall", Category: Install, Severity: Warning,
		Title: "the firewall lets the control plane reach port 9443 of the nodes",
		Why: "The firewall of a private GKE cluster lets the control plane reach ports 443 and 10250 only, " +
			"so calls of the webhook time out.",
		Fix: "`gcloud compute firewall-rules create redis-tls --allow=tcp:9443 " +
			"--source-ranges=CONTROL_PLANE_CIDR --network=NETWORK`",
		Needs: []Source{sourceNodes},
		run:   checkFirewall,
	},
}

func checkNotInstalled(in *Input) Result {
	var found []string
	for i := range in.Release.Deployments {
		found = append(found, fmt.Sprintf("Deployment %s: has the labels of redis-tls",
			namespaced(&in.Release.Deployments[i])))
	}
	if w := in.webhook(); w != nil {
		found = append(found, fmt.Sprintf("MutatingWebhookConfiguration %s: exists", w.Name))
	}
	return failed("", found...)
}

// checkFirewall reports a GKE cluster whose nodes have no external address.
func checkFirewall(in *Input) Result {
	if !onCloud(in.Nodes, "gce://") {
		return passed("not on GKE")
	}
	if slices.ContainsFunc(in.Nodes, func(n corev1.Node) bool {
		return slices.ContainsFunc(n.Status.Addresses, func(a corev1.NodeAddress) bool {
			return a.Type == corev1.NodeExternalIP
		})
	}) {
		return passed("nodes have external addresses")
	}
	return failed("", "Nodes: no external address, so the cluster is private: requires a firewall rule for port 9443")
}
