package bed

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/redis-tls/redis-tls/test/harness"
)

// Capture is a tcpdump of all TCP packets of a host.
type Capture struct {
	host    *Host
	path    string
	process *harness.Process
}

// Stream is what a client sent over one TCP connection.
type Stream struct {
	Client netip.AddrPort
	Server netip.AddrPort
	Sent   []byte
}

// TLS reports whether the stream begins with a TLS handshake.
func (s Stream) TLS() bool { return bytes.HasPrefix(s.Sent, []byte{0x16, 0x03}) }

func (s Stream) String() string {
	return fmt.Sprintf("%s → %s: %q", s.Client, s.Server, s.Sent[:min(len(s.Sent), 64)])
}

// Record starts a capture. Stop ends it.
func (h *Host) Record(ctx context.Context) (*Capture, error) {
	if err := need("tcpdump", h.bed.components.tcpdump); err != nil {
		return nil, err
	}
	n := h.bed.captures.Add(1)
	c := &Capture{host: h, path: filepath.Join(h.bed.dir, fmt.Sprintf("%s-%d.pcap", h.Namespace, n))}
	c.process = h.process(fmt.Sprintf("tcpdump-%d", n), nil,
		h.bed.components.tcpdump, "-i", "eth0", "-Z", "root", "-U", "--immediate-mode", "-s", "0", "-w", c.path, "tcp")
	if err := c.process.Start(); err != nil {
		return nil, err
	}
	return c, harness.Eventually(ctx, startTimeout, "tcpdump to listen", func(context.Context) error {
		if err := c.process.Crashed(); err != nil {
			return err
		}
		if log := c.process.Tail(); !strings.Contains(log, "listening on eth0") {
			return fmt.Errorf("log %q", log)
		}
		return nil
	})
}

// sentinel is the plaintext that Stop sends, and that the capture must contain.
const sentinel = "this-is-seen-by-the-capture"

// Stop ends the capture and returns what clients sent, in the order of their connections. It sends plaintext to an open
// port of the host first: once the capture contains it, the capture is complete. The result excludes this plaintext,
// and what istiod sends to a sidecar of the host, whose connection is older than the capture.
func (c *Capture) Stop(ctx context.Context, port uint16) ([]Stream, error) {
	conn, err := c.host.Dial(port)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(sentinel)); err != nil {
		return nil, err
	}
	own := conn.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
	var streams []Stream
	err = harness.Eventually(ctx, startTimeout, "the capture to be complete", func(context.Context) error {
		content, err := os.ReadFile(c.path)
		if err != nil {
			return err
		}
		all, err := parse(content, c.host.Addresses)
		if err != nil {
			return err
		}
		streams = nil
		err = fmt.Errorf("%d streams without the last one", len(all))
		for _, s := range all {
			switch {
			case s.Client == own && string(s.Sent) == sentinel:
				err = nil
			case s.Client.Port() != istiodPort:
				streams = append(streams, s)
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return streams, c.process.Stop(10 * time.Second)
}

// parse reads the file format of libpcap (pcap-savefile(5)) with Ethernet frames, IP and TCP, and joins what clients
// sent to the host. If the last packet is incomplete, tcpdump is still writing it. The veth pairs neither lose nor
// reorder packets.
func parse(content []byte, host []netip.Addr) ([]Stream, error) {
	const fileHeader, recordHeader, ethernetHeader = 24, 16, 14
	if len(content) < fileHeader {
		return nil, fmt.Errorf("%d bytes are too few for a capture", len(content))
	}
	if magic := binary.LittleEndian.Uint32(content); magic != 0xa1b2c3d4 {
		return nil, fmt.Errorf("magic number %#x is not that of a capture", magic)
	}
	var streams []Stream
	at := map[[2]netip.AddrPort]int{}
	for rest := content[fileHeader:]; len(rest) >= recordHeader; {
		size := int(binary.LittleEndian.Uint32(rest[8:]))
		if len(rest) < recordHeader+size {
			break
		}
		frame := rest[recordHeader : recordHeader+size]
		rest = rest[recordHeader+size:]
		if len(frame) < ethernetHeader+20 {
			continue
		}
		client, server, payload, syn := segment(frame[ethernetHeader:])
		if !slices.Contains(host, server.Addr()) {
			continue
		}
		key := [2]netip.AddrPort{client, server}
		i, known := at[key]
		if !known || syn {
			i = len(streams)
			at[key] = i
			streams = append(streams, Stream{Client: client, Server: server})
		}
		streams[i].Sent = append(streams[i].Sent, payload...)
	}
	return streams, nil
}

// segment parses a TCP packet, of IPv4 or of IPv6 without extension headers, which tcpdump's filter does not parse
// either: RFC 791, 8200, 9293.
func segment(packet []byte) (from, to netip.AddrPort, payload []byte, syn bool) {
	size, header := int(binary.BigEndian.Uint16(packet[2:])), int(packet[0]&0x0f)*4
	source, destination := packet[12:16], packet[16:20]
	if packet[0]>>4 == 6 {
		header = 40
		size, source, destination = header+int(binary.BigEndian.Uint16(packet[4:])), packet[8:24], packet[24:header]
	}
	tcp := packet[header:min(len(packet), size)] // without Ethernet's padding
	address := func(b []byte, port []byte) netip.AddrPort {
		a, _ := netip.AddrFromSlice(b)
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
	}
	return address(source, tcp[0:2]), address(destination, tcp[2:4]), tcp[int(tcp[12]>>4)*4:], tcp[13]&0x02 != 0
}
