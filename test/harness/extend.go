package harness

import "path/filepath"

// Directory is the control plane's own temporary directory, which Stop removes. What a test bed keeps
// there lives in a directory of its own below it.
func (c *ControlPlane) Directory() string { return c.dir }

// LogPath is where a Process of a test bed should log to, beside those of the control plane.
func (c *ControlPlane) LogPath(name string) string { return filepath.Join(c.logs, name+".log") }

// OnStop registers what Stop must undo, before all that was started earlier, also after an interrupt.
// When Stop has begun already, it is undone at once.
func (c *ControlPlane) OnStop(undo func() error) { c.onStop(undo) }
