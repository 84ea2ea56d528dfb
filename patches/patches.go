// Package patches turns originations into JSON patch operations on a pod, and says what of the pod is
// in their way.
//
// In go a pod as admitted so far and its originations; out come operations (RFC 6902), sorted and
// minimal: none when the pod already is as it should be. Operations are built directly, never by
// marshalling a typed pod, which could drop fields newer than the library. The package is pure and
// must never import mesh, cluster, webhook or controller.
package patches

import "time"

// Options are what For needs besides the pod and its originations.
type Options struct {
	// Gate asks for the first-use gate.
	Gate bool
	// FirstUse is recorded in the status when an object was still missing at admission; nil otherwise
	// and in the offline preview.
	FirstUse *time.Time
}
