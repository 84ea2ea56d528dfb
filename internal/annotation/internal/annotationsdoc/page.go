package main

import (
	"fmt"
	"strings"

	"github.com/redis-tls/redis-tls/internal/annotation"
	"github.com/redis-tls/redis-tls/internal/origination"
)

const head = `<!-- Generated from internal/annotation/keys.go by "make generate"; do not edit. -->
# Annotations

Put these on a Pod (the pod template of a Deployment and the like), or on a Namespace with the label
` + "`redis-tls/injection: enabled`" + `, or into ` + "`defaults`" + ` of the Helm values.

## Where a value comes from

Key by key, the nearest place that carries the key decides, also with an empty value:

1. the pod;
2. its namespace, if that carries the label ` + "`redis-tls/injection: enabled`" + `;
3. ` + "`defaults`" + ` of the Helm values, for the same namespaces;
4. the default of the table.

An empty value stands for the default of the table, so ` + "`redis-tls/host: \"\"`" + ` on a pod leaves out a Redis
that its namespace asks for. A pod that carries keys itself *asks*: where its wish cannot be met it is
refused. A pod that only inherits is admitted untouched there, with a warning. A wrong value refuses the
pod wherever it stands, because its traffic would go out in plaintext.

| label or annotation | on | value | effect |
| --- | --- | --- | --- |
| ` + "`redis-tls/injection`" + ` (label) | Namespace | ` + "`enabled`" + ` | its annotations and the Helm defaults count for its pods |
| ` + "`redis-tls/injection`" + ` (label) | Namespace | ` + "`disabled`" + ` | nothing is inherited, and pods that ask are refused |
| ` + "`redis-tls/inject`" + ` (label or annotation) | Pod | ` + "`\"false\"`" + ` | the pod opts out |

## Several Redis

The prefix ` + "`redis-tls/`" + ` is the instance ` + "`default`" + `. ` + "`<name>.redis-tls/`" + `, as in ` + "`sessions.redis-tls/host`" + `,
is a further Redis; the name is a DNS label. Instances on one host are merged, and must agree in all but
their ports.

## Keys

`

const tail = `
Values marked *not supported yet* are refused by this release. Unknown keys under our prefixes, and
keys in capitals, are refused on a pod and in the Helm values; on a namespace they are ignored, with a warning.

## Limits

| what | at most |
| --- | --- |
%s
## Values that are refused

- **Hosts**: names inside the cluster (single words, ` + "`*.svc`, `*.pod`" + `, the cluster domain, names that lead to
  an existing Service) save in mode ` + "`istio-mutual`" + `, which takes no others, ` + "`localhost`" + `, metadata services, wildcards, names below ` + "`redis-tls.internal`" + `, names
  that end in a number (resolvers take them for IPv4 addresses) and IP addresses, which belong into
  ` + "`addresses`" + `. International names are looked at in their ASCII form. A name with capitals or a dot at the end is
  refused too, save in mode ` + "`istio-mutual`" + `: a resolver would not find it in ` + "`/etc/hosts`" + `, where the VIP stands.
- **Addresses**: unspecified, loopback, link-local, multicast, broadcast and metadata addresses in every
  notation (IPv4-mapped, NAT64, 6to4), ranges that contain one, the range of our VIPs, Istio's automatic
  addresses, and the cluster IPs of Services.
- **Ports**: the sidecar's own: %s.
- What the administrator's ` + "`policy`" + ` does not allow.
`

// referencePage returns docs/annotations.md.
func referencePage() string {
	var limits strings.Builder
	for _, l := range annotation.Limits() {
		fmt.Fprintf(&limits, "| %s | %d |\n", l.What, l.Most)
	}
	ports := strings.Trim(strings.ReplaceAll(fmt.Sprint(origination.SidecarPorts()), " ", ", "), "[]")
	return head + table() + fmt.Sprintf(tail, limits.String(), ports)
}

// table returns the keys as a Markdown table, in the order of the rows.
func table() string {
	var b strings.Builder
	b.WriteString("| key | scope | default | meaning |\n| --- | --- | --- | --- |\n")
	for _, k := range annotation.Keys() {
		meaning := k.Description
		if len(k.Values) > 0 {
			meaning += ": " + values(k.Values)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Name, k.Scope, cell(k.Default), cell(meaning))
	}
	return b.String()
}

// values lists a closed set.
func values(all []annotation.Value) string {
	texts := make([]string, len(all))
	for i, v := range all {
		texts[i] = "`" + v.Name + "`"
		if !v.Supported {
			texts[i] += " (*not supported yet*)"
		}
	}
	return strings.Join(texts, ", ")
}

// cell keeps text within its cell of the table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
