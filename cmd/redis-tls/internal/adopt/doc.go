// Package adopt replaces hand-written Istio objects by annotations of redis-tls, and removes what redis-tls wrote.
//
// [Find] returns the [Plan]: the annotations of each workload, and the objects that they replace. It decides nothing
// that it cannot see: what has two meanings is left, with the reason. [Plan.Apply] changes the manifests. [Uninject] is
// the inverse of package preview.
package adopt
