package check

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// versionLabel is the label of the chart's objects with the release.
const versionLabel = "app.kubernetes.io/version"

var controlPlaneChecks = []Check{
	{
		ID: "installed", Category: ControlPlane, Severity: Error,
		Title: "redis-tls is installed once",
		Why:   "Without its webhook no pod gets TLS. Two installations overwrite each other's webhook configuration.",
		Fix:   "`helm install redis-tls charts/redis-tls --namespace redis-tls --create-namespace`",
		Needs: []Source{sourceDeployments},
		run:   checkInstalled,
	},
	{
		ID: "replicas-ready", Category: ControlPlane, Severity: Error,
		Title: "all replicas are ready and up to date",
		Why:   "While no replica is ready, the API server refuses each pod that requests TLS.",
		Fix:   "`kubectl -n NAMESPACE describe pods -l app.kubernetes.io/name=redis-tls`",
		Needs: []Source{sourceDeployments},
		After: []string{"installed"},
		run:   checkReplicas,
	},
	{
		ID: "replicas-version", Category: ControlPlane, Severity: Warning,
		Title: "the replicas and the command line have the same version",
		Why:   "Another version may decide otherwise than the command line shows.",
		Fix:   "Install the release of the command line that the cluster runs.",
		Needs: []Source{sourceDeployments, sourcePods},
		After: []string{"installed"},
		run:   checkVersions,
	},
	{
		ID: "configuration-valid", Category: ControlPlane, Severity: Error,
		Title: "the configuration of redis-tls is valid",
		Why:   "A replica that starts with a wrong configuration ends at once.",
		Fix:   "Correct the Helm values, and run `helm upgrade`.",
		Needs: []Source{sourceConfigMap},
		After: []string{"installed"},
		run:   checkConfiguration,
	},
	{
		ID: "configuration-current", Category: ControlPlane, Severity: Error,
		Title: "the replicas run the configuration of the ConfigMap",
		Why:   "The server reads all but the policy once. An edited ConfigMap takes effect only in new pods.",
		Fix:   "Run `helm upgrade` with the wanted values, which also replaces the pods.",
		Needs: []Source{sourceConfigMap, sourcePods},
		After: []string{"configuration-valid"},
		run:   checkCurrent,
	},
}

func checkInstalled(in *Input) Result {
	var found []string
	deployments := in.Release.Deployments
	if len(deployments) == 0 {
		found = append(found, "Deployments: none has the labels "+selector+": must be installed")
		fix := ""
		if leftovers := leftovers(in); len(leftovers) > 0 {
			fix, found = leftoverFix, append(found, leftovers...)
		}
		return failed(fix, found...)
	}
	if len(deployments) == 1 {
		return passed("namespace " + deployments[0].Namespace)
	}
	for i := range deployments {
		found = append(found, fmt.Sprintf("Deployment %s: is one of %d installations: must be the only one",
			namespaced(&deployments[i]), len(deployments)))
	}
	return failed("", found...)
}

// leftoverFix is the fix if an installation was removed with its namespace.
const leftoverFix = "Install redis-tls again, or delete these objects: " +
	"https://github.com/redis-tls/redis-tls/blob/main/docs/uninstall.md#the-namespace-was-deleted"

// leftovers returns the objects of the cluster that an installation leaves if only its namespace is deleted. They
// refuse pods.
func leftovers(in *Input) (found []string) {
	const rule = "refuses pods that request TLS, and no replica runs"
	if w := in.webhook(); w != nil {
		found = append(found, fmt.Sprintf("MutatingWebhookConfiguration %s: %s", w.Name, rule))
	}
	for i := range in.Bindings {
		if denies(&in.Bindings[i], guardPolicy) {
			found = append(found, fmt.Sprintf("ValidatingAdmissionPolicyBinding %s: %s", in.Bindings[i].Name, rule))
		}
	}
	return found
}

func checkReplicas(in *Input) Result {
	d := in.Release.Deployment()
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	var found []string
	report := func(what string, got int32) {
		if got < want {
			found = append(found, fmt.Sprintf("Deployment %s: %d of %d replicas: must be %s", namespaced(d), got, want, what))
		}
	}
	report("ready", d.Status.ReadyReplicas)
	report("up to date", d.Status.UpdatedReplicas)
	if want == 0 {
		found = append(found, fmt.Sprintf("Deployment %s: spec.replicas 0: must be at least 1", namespaced(d)))
		return failed("`kubectl -n NAMESPACE scale deployment "+d.Name+" --replicas=2`", found...)
	}
	if len(found) > 0 {
		return failed("", found...)
	}
	return passed(counted(int(want), "replica"))
}

// checkVersions compares the labels of the chart on the Deployment and its pods, and the release of the command line.
func checkVersions(in *Input) Result {
	d := in.Release.Deployment()
	version := d.Labels[versionLabel]
	var found []string
	for i := range in.Release.Pods {
		p := &in.Release.Pods[i]
		if v := p.Labels[versionLabel]; v != version {
			found = append(found, fmt.Sprintf("Pod %s: version %s: must be %s", namespaced(p), v, version))
		}
	}
	if own := strings.TrimPrefix(in.Version, "v"); own != "" && own != version {
		found = append(found, fmt.Sprintf("command line: version %s: must be %s", own, version))
	}
	if len(found) > 0 {
		return failed("", found...)
	}
	return passed(version)
}

func checkConfiguration(in *Input) Result {
	object := fmt.Sprintf("ConfigMap %s/%s", in.Release.Namespace(), name)
	if in.Release.ConfigMap == nil {
		return failed("", object+": must exist")
	}
	if in.ConfigError == nil {
		return Result{}
	}
	var found []string
	for line := range strings.Lines(in.ConfigError.Error()) {
		found = append(found, object+": "+strings.TrimSuffix(line, "\n"))
	}
	return failed("", found...)
}

// checksumAnnotation is that of the chart's pods, with the hash of their configuration.
const checksumAnnotation = "checksum/config"

// checkCurrent computes the hash of the ConfigMap as the chart's Deployment does: without the policy, whose changes the
// replicas watch.
func checkCurrent(in *Input) Result {
	data := in.Release.ConfigMap.Data
	var settings map[string]any
	if err := yaml.Unmarshal([]byte(data[configKey]), &settings); err != nil {
		return failed("", fmt.Sprintf("ConfigMap %s/%s: %v", in.Release.Namespace(), name, err))
	}
	delete(settings, "policy")
	text, err := json.Marshal(settings)
	if err != nil {
		return failed("", fmt.Sprintf("ConfigMap %s/%s: %v", in.Release.Namespace(), name, err))
	}
	bundle := data["ca-bundle.pem"]
	var sums []string
	for _, b := range []string{bundle, strings.TrimSpace(bundle), strings.TrimSpace(bundle) + "\n"} {
		sums = append(sums, fmt.Sprintf("%x", sha256.Sum256([]byte(string(text)+b))))
	}
	var found []string
	for i := range in.Release.Pods {
		p := &in.Release.Pods[i]
		if p.DeletionTimestamp == nil && !slices.Contains(sums, p.Annotations[checksumAnnotation]) {
			found = append(found, fmt.Sprintf("Pod %s: started with another configuration than that of ConfigMap %s: "+
				"must be replaced", namespaced(p), name))
		}
	}
	return failed("", found...)
}
