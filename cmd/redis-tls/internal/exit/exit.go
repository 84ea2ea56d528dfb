// Package exit gives errors of the command line their exit status. [With] attaches one, and [Code] reads it. The
// statuses are those of istioctl (istioctl/cmd/root.go).
package exit

import "errors"

// The exit statuses of redis-tls.
const (
	// OK is the status without an error.
	OK = 0
	// Failed is the status of a command that could not run: no cluster, no permission, a file that cannot be read.
	Failed = 1
	// Usage is the status of a wrong flag or argument.
	Usage = 64
	// Input is the status of input that cannot be used: a manifest that is not valid, an unknown key.
	Input = 65
	// Findings is the status of a command that ran and found problems.
	Findings = 79
)

// coded is an error with an exit status.
type coded struct {
	code int
	err  error
}

func (c *coded) Error() string {
	if c.err == nil {
		return ""
	}
	return c.err.Error()
}

func (c *coded) Unwrap() error { return c.err }

// With returns the error with an exit status. A nil error has an empty text: the command has printed its findings.
func With(code int, err error) error { return &coded{code, err} }

// Code returns the exit status of an error: OK for nil, and Failed for an error without a status.
func Code(err error) int {
	var c *coded
	switch {
	case err == nil:
		return OK
	case errors.As(err, &c):
		return c.code
	}
	return Failed
}

// HasCode reports whether the error has an exit status.
func HasCode(err error) bool {
	var c *coded
	return errors.As(err, &c)
}
