package harness

import (
	"net/netip"
	"path/filepath"
)

// Directory returns the control plane's temporary directory, which Stop removes. A test bed keeps its files in a
// directory below it.
func (c *ControlPlane) Directory() string { return c.dir }

// LogPath returns the path of the log of a test bed's Process, next to those of the control plane.
func (c *ControlPlane) LogPath(name string) string { return filepath.Join(c.logs, name+".log") }

// OnStop registers a function that Stop calls, before those of everything started earlier, also after an interrupt. If
// Stop has already begun, it is called at once.
func (c *ControlPlane) OnStop(undo func() error) { c.onStop(undo) }

// NewAddress returns an address of this machine that nothing else uses, like a pod's. The API server may call it.
func (c *ControlPlane) NewAddress() (netip.Addr, error) { return c.net.address() }
