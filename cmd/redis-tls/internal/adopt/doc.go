// Package adopt replaces hand-written Istio objects by annotations of redis-tls, and removes what redis-tls wrote.
//
// [Uninject] is the inverse of package preview.
package adopt
