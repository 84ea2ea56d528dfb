{{/* The name of all namespaced objects. A cluster has one release, because it has one webhook configuration. */}}
{{- define "redis-tls.name" -}}redis-tls-webhook{{- end -}}
{{/* The Secret of the serving certificate. Each mode has its own, because Helm deletes the one of self-signed when the mode changes. */}}
{{- define "redis-tls.secret" -}}
{{- get (dict "self-signed" "redis-tls-webhook-cert" "cert-manager" "redis-tls-webhook-tls" "provided" .Values.certs.provided.secretName) .Values.certs.mode -}}
{{- end -}}
{{/* The name sorts before istio-*, because the API server calls mutating webhooks in the order of their configurations' names. */}}
{{- define "redis-tls.webhookConfiguration" -}}00-redis-tls{{- end -}}

{{- define "redis-tls.selector" -}}
app.kubernetes.io/name: redis-tls
app.kubernetes.io/component: webhook
{{- end -}}

{{/* managed-by is Helm here. The value redis-tls marks the mesh objects that the controller manages. */}}
{{- define "redis-tls.labels" -}}
{{ include "redis-tls.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "redis-tls.image" -}}
{{- $repository := .Values.image.repository -}}
{{- with dig "imageRegistry" "" (.Values.global | default dict) -}}
{{- $repository = printf "%s/%s" . (regexReplaceAll "^[^/]*[.:][^/]*/" $repository "") -}}
{{- end -}}
{{- with .Values.image -}}
{{- if .digest }}{{ $repository }}@{{ .digest }}{{ else }}{{ $repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* The user name of the webhook's service account. */}}
{{- define "redis-tls.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "redis-tls.name" . }}
{{- end -}}

{{/* The name of the objects of helm uninstall's hook. */}}
{{- define "redis-tls.uninstall" -}}redis-tls-uninstall{{- end -}}

{{- define "redis-tls.excludedNamespaces" -}}
{{ append .Values.excludedNamespaces .Release.Namespace | uniq | toYaml }}
{{- end -}}

{{/* The server's configuration file: the values of the same names. */}}
{{- define "redis-tls.config" -}}
{{- $config := pick .Values "defaults" "policy" "vip" "firstUse" "cleanup" "istio" "clusterDomain" "objectLabels" "objectAnnotations" -}}
{{ set $config "excludedNamespaces" (include "redis-tls.excludedNamespaces" . | fromYamlArray) | toYaml }}
{{- end -}}

{{/* The hash of what the server reads only when it starts: its configuration without the policy, and its CA. */}}
{{- define "redis-tls.checksum" -}}
{{ print (omit (include "redis-tls.config" . | fromYaml) "policy" | toJson) .Values.certs.caBundle | sha256sum }}
{{- end -}}

{{/* The failurePolicy of the webhook. */}}
{{- define "redis-tls.failurePolicy" -}}
{{ if eq .Values.policy.mode "warn" }}Ignore{{ else }}{{ .Values.webhook.failurePolicy }}{{ end }}
{{- end -}}

{{/* A label selector with one requirement, as a list of it. */}}
{{- define "redis-tls.requirements" -}}
{{- $all := .matchExpressions | default list -}}
{{- range $key, $value := .matchLabels -}}
{{- $all = append $all (dict "key" $key "operator" "In" "values" (list $value)) -}}
{{- end -}}
{{ toJson $all }}
{{- end -}}

{{/* The requirements of the entries of policy.namespaces with mode warn. An entry has one, so that it can be negated. */}}
{{- define "redis-tls.trials" -}}
{{- $all := list -}}
{{- if ne .Values.policy.mode "warn" -}}
{{- range .Values.policy.namespaces -}}
{{- if eq (.mode | default "") "warn" -}}
{{- $all = concat $all (include "redis-tls.requirements" .selector | fromJsonArray) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{ toJson $all }}
{{- end -}}

{{/* The requirements of the namespaces that no entry with mode warn selects. */}}
{{- define "redis-tls.enforced" -}}
{{- $opposite := dict "In" "NotIn" "NotIn" "In" "Exists" "DoesNotExist" "DoesNotExist" "Exists" -}}
{{- $all := list -}}
{{- range include "redis-tls.trials" . | fromJsonArray -}}
{{- $all = append $all (merge (dict "operator" (get $opposite .operator)) .) -}}
{{- end -}}
{{ toJson $all }}
{{- end -}}

{{/* CEL: the annotation keys by which the pod requests TLS. They include keys in the wrong case, which the webhook
     refuses, and exclude the annotations that the webhook writes. */}}
{{- define "redis-tls.cel.requestKeys" -}}
object.metadata.?annotations.orValue({}).filter(key, ('.' + key.lowerAscii()).contains('.redis-tls/') &&
  !(key in ['redis-tls/inject', {{ include "redis-tls.cel.statusKeys" . }}]))
{{- end -}}

{{/* CEL: the annotations that only the webhook writes, as list elements. */}}
{{- define "redis-tls.cel.statusKeys" -}}
'redis-tls/status', 'redis-tls/vips', 'redis-tls/first-use'
{{- end -}}

{{/* CEL: a list of strings as text for a message, truncated because the API server drops messages beyond 5 KiB. */}}
{{- define "redis-tls.cel.text" -}}
({{ . }}.join(', ').size() <= 1000 ? {{ . }}.join(', ') : {{ . }}.join(', ').substring(0, 1000) + '…')
{{- end -}}

{{/* CEL: the pod opts out. */}}
{{- define "redis-tls.cel.optedOut" -}}
object.metadata.?labels[?'redis-tls/inject'].orValue('') == 'false' ||
object.metadata.?annotations[?'redis-tls/inject'].orValue('') == 'false'
{{- end -}}

{{/* Annotations of the RBAC objects that exist while helm test runs. */}}
{{- define "redis-tls.test.rights" -}}
helm.sh/hook: test
helm.sh/hook-weight: "-1"
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
{{- end -}}

{{/* The writes of all kinds of objects that the controller manages, as matchConstraints of a policy. */}}
{{- define "redis-tls.objectRules" -}}
resourceRules:
- apiGroups: [networking.istio.io]
  apiVersions: ["*"]
  operations: [CREATE, UPDATE, DELETE]
  resources: [serviceentries, destinationrules, virtualservices, sidecars]
  scope: Namespaced
- apiGroups: [security.istio.io]
  apiVersions: ["*"]
  operations: [CREATE, UPDATE, DELETE]
  resources: [peerauthentications]
  scope: Namespaced
- apiGroups: [cert-manager.io]
  apiVersions: ["*"]
  operations: [CREATE, UPDATE, DELETE]
  resources: [certificates]
  scope: Namespaced
{{- end -}}
