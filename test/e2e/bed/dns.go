package bed

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// DNS is a DNS server over UDP for the names that were set. Other names do not exist.
type DNS struct {
	mu    sync.Mutex
	names map[string][]netip.Addr
}

// Set sets the addresses of a name. Without addresses the name does not exist.
func (d *DNS) Set(name string, addresses ...netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[strings.ToLower(name)+"."] = addresses
}

// istiodService is the name by which sidecars reach istiod.
const istiodService = "istiod.istio-system.svc"

// startDNS serves on the fabric until the bed is stopped.
func (b *Bed) startDNS() (*DNS, error) {
	d := &DNS{names: map[string][]netip.Addr{}}
	d.Set(istiodService, b.fabric.gateway)
	return d, d.listen(b, b.fabric.gateway)
}

func (d *DNS) listen(b *Bed, address netip.Addr) error {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 53)))
	if err != nil {
		return err
	}
	b.OnStop(conn.Close)
	go d.serve(conn)
	return nil
}

func (d *DNS) serve(conn *net.UDPConn) {
	buffer := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the client of an earlier answer has closed its socket
		}
		if answer, err := d.answer(buffer[:n]); err == nil {
			_, _ = conn.WriteToUDPAddrPort(answer, from)
		}
	}
}

func (d *DNS) answer(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Header.Response, m.Header.RecursionAvailable, m.Header.Authoritative = true, true, true
	m.Answers, m.Authorities, m.Additionals = nil, nil, nil
	for _, q := range m.Questions {
		d.mu.Lock()
		addresses := d.names[strings.ToLower(q.Name.String())]
		d.mu.Unlock()
		if len(addresses) == 0 {
			m.Header.RCode = dnsmessage.RCodeNameError
		}
		for _, a := range addresses {
			header := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 5}
			switch {
			case a.Is4() && q.Type == dnsmessage.TypeA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: a.As4()}})
			case a.Is6() && q.Type == dnsmessage.TypeAAAA:
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
			}
		}
	}
	return m.Pack()
}
