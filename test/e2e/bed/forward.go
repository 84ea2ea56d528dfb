package bed

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Forward listens on a port of the host until the bed is stopped. The first byte of a connection chooses the port of
// the host that gets the connection. No capture sees the way from here to that port.
func (h *Host) Forward(port uint16, choose func(first byte) uint16) error {
	var l net.Listener
	err := h.inside(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(h.Address, port).String())
		return err
	})
	if err != nil {
		return fmt.Errorf("forwarding port %d: %w", port, err)
	}
	h.bed.OnStop(l.Close)
	go func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				go h.forward(conn, choose)
			}
		}
	}()
	return nil
}

func (h *Host) forward(client net.Conn, choose func(first byte) uint16) {
	defer client.Close()
	first := make([]byte, 1)
	if _, err := io.ReadFull(client, first); err != nil {
		return
	}
	var server net.Conn
	err := h.inside(func() (err error) {
		server, err = net.Dial("tcp", netip.AddrPortFrom(h.Address, choose(first[0])).String())
		return err
	})
	if err != nil {
		return // the client sees a closed connection
	}
	defer server.Close()
	if _, err := server.Write(first); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(client, server)
}

// inside calls f in the network namespace of the host. Sockets that f opens stay in it.
func (h *Host) inside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its goroutine
		namespace, err := os.Open(filepath.Join(namespacesDir, h.Namespace))
		if err != nil {
			done <- err
			return
		}
		defer namespace.Close()
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("entering network namespace %s: %w", h.Namespace, err)
			return
		}
		done <- f()
	}()
	return <-done
}
