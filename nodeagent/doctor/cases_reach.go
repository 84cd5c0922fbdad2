package doctor

import (
	"fmt"
	"net/netip"

	"brig/nodeagent/doctor/probe"
)

// tcpTo and udpTo are tries from inside and as frames.
func (c *kase) udpTo(from *box, a netip.Addr, port uint16) {
	what := fmt.Sprintf("UDP %s:%d", a, port)
	c.forge(from, what, func(f *frame, m []byte) { f.to, f.body = a, udp(4000, port, m) })
	c.probe(from, what+" from inside", probe.UDP, netip.AddrPortFrom(a, port).String())
}

func (c *kase) tcpTo(from *box, a netip.Addr, port uint16) {
	what := fmt.Sprintf("TCP %s:%d", a, port)
	c.frame(from, what, func(m []byte) []byte { return c.p.syn(from, a, port, m) })
	c.probe(from, what+" from inside", probe.TCP, netip.AddrPortFrom(a, port).String())
}

// plainly are the controls of what is tried both ways: a datagram on the wire, and one
// and a connection from inside. All cases of a sandbox share them.
func (c *kase) plainly(from *box) {
	if c.p.plain[from] == nil {
		var made kase
		made.p = c.p
		made.honestly(from, nil)
		made.probeControl(from, probe.UDP, netip.AddrPortFrom(at(c.p.yes, 6), 9).String())
		made.probeControl(from, probe.TCP, netip.AddrPortFrom(at(c.p.yes, 6), 80).String())
		c.p.plain[from] = made.controls
	}
	c.controls = append(c.controls, c.p.plain[from]...)
}

// onHost says something to a listener from the host itself, which must be heard.
func (c *kase) onHost(path, network, to, place string) {
	n, marker := c.p.judge.marker()
	c.controls = append(c.controls, &attempt{what: "control", n: n, places: []string{place}, err: within(path, func() error { return say(network, to, marker) })})
}

// nodeItself: nothing that listens on the host can be reached at any of its addresses.
func nodeItself(p *plan) {
	p.add("host: UDP", "the doctor's listener on 0.0.0.0, at every address of the host", func(c *kase) {
		for _, a := range p.hosts {
			c.udpTo(p.open, a, p.udp)
		}
		c.plainly(p.open)
		c.onHost("", "udp4", fmt.Sprintf("127.0.0.1:%d", p.udp), atListener)
	})
	p.add("host: TCP", "every listening port, and the doctor's on 0.0.0.0, at every address of the host", func(c *kase) {
		for _, a := range p.hosts {
			c.tcpTo(p.open, a, p.tcp)
			for _, port := range p.ports {
				if port != p.tcp {
					c.probe(p.open, fmt.Sprintf("TCP %s:%d", a, port), probe.TCP, netip.AddrPortFrom(a, port).String())
				}
			}
		}
		c.plainly(p.open)
		c.onHost("", "tcp4", fmt.Sprintf("127.0.0.1:%d", p.tcp), atListener)
	})
	p.add("host: loopback", "127.0.0.1 from inside and on the wire", func(c *kase) {
		for _, s := range []string{"127.0.0.1", "127.0.0.53", "0.0.0.0"} {
			a := netip.MustParseAddr(s)
			c.forge(p.open, "UDP "+s, func(f *frame, m []byte) { f.to, f.body = a, udp(4000, p.udp, m) })
			c.forge(p.open, "UDP "+s, func(f *frame, m []byte) { f.to, f.body = a, udp(4000, p.inner, m) })
			c.probe(p.open, "TCP "+s, probe.TCP, netip.AddrPortFrom(a, p.tcp).String())
			c.probe(p.open, "UDP "+s, probe.UDP, netip.AddrPortFrom(a, p.udp).String())
		}
		c.plainly(p.open)
	})
	p.add("host: ping", "echo requests to every address of the host", func(c *kase) {
		for _, a := range p.hosts {
			c.forge(p.open, "ping "+a.String(), func(f *frame, m []byte) { f.to, f.proto, f.body = a, protoICMP, icmp(8, 0, [4]byte{0, 8, 0, 1}, m) })
			c.probe(p.open, "ping "+a.String(), probe.Ping, netip.AddrPortFrom(a, 0).String())
		}
		c.honestly(p.open, func(f *frame, m []byte) { f.proto, f.body = protoICMP, icmp(8, 0, [4]byte{0, 8, 0, 2}, m) })
	})
	p.add("tunnel ports", "a sibling's tunnel, at every address of the host", func(c *kase) {
		port := p.list.tunnel.Port()
		for _, from := range []*box{p.open, p.list} {
			for _, a := range append([]netip.Addr{p.list.tunnel.Addr()}, p.hosts...) {
				c.probe(from, fmt.Sprintf("TCP %s:%d", a, port), probe.TCP, netip.AddrPortFrom(a, port).String())
			}
		}
		c.plainly(p.open)
		c.controls = append(c.controls, p.greeted())
	})
}

// transitItself: the gateway answers nothing but DNS to those who may ask.
func transitItself(p *plan) {
	p.add("gateway: ports", "a listener of the doctor's on all addresses of the transit namespace", func(c *kase) {
		for _, a := range []netip.Addr{gateway, p.up.addr} {
			c.udpTo(p.open, a, p.inner)
			c.tcpTo(p.open, a, p.inner)
		}
		c.plainly(p.open)
		c.onHost(p.transitNS, "tcp4", fmt.Sprintf("127.0.0.1:%d", p.inner), atTransit)
		c.onHost(p.transitNS, "udp4", fmt.Sprintf("127.0.0.1:%d", p.inner), atTransit)
	})
	p.add("gateway: proxy", "the port of the proxy for names, directly", func(c *kase) {
		for _, a := range []netip.Addr{gateway, p.up.addr} {
			c.tcpTo(p.open, a, 8443)
			c.tcpTo(p.list, a, 8443)
		}
		c.plainly(p.open)
		c.plainly(p.list)
	})
	p.add("gateway: its MAC, other addresses", "the other end of the node's link, by the gateway's MAC", func(c *kase) {
		for _, a := range []netip.Addr{p.up.addr, p.host.addr, at(netip.PrefixFrom(gateway, 32), 1)} {
			c.forge(p.open, "UDP "+a.String(), func(f *frame, m []byte) { f.to, f.body = a, udp(4000, p.inner, m) })
			c.forge(p.open, "UDP "+a.String(), func(f *frame, m []byte) { f.to, f.body = a, udp(53, 53, m) })
		}
		c.honestly(p.open, nil)
	})
}

// sibling: one sandbox does not reach another.
func sibling(p *plan) {
	p.add("sibling: directly", "a server in another sandbox, by its address", func(c *kase) {
		c.tcpTo(p.open, p.list.addr, servePort)
		c.udpTo(p.open, p.list.addr, 9)
		c.udpTo(p.list, p.open.addr, 9)
		c.tcpTo(p.list, p.open.addr, servePort)
		c.plainly(p.open)
		c.plainly(p.list)
		c.controls = append(c.controls, p.greeted())
	})
	p.add("sibling: forged reply", "replies and resets of a sibling's flow, as if from its server", func(c *kase) {
		server := at(p.yes, 7)
		c.honestly(p.list, func(f *frame, _ []byte) { f.to = server }) // a flow, for which replies are let in
		c.control(p.hostSide, func(m []byte) []byte {
			return p.inbound(server, p.list.addr, protoUDP, udp(9, 4000, m)).encode()
		}, inbox+p.list.name)
		for _, mac := range [][]byte{nil, p.host.mac, p.up.mac} {
			c.forge(p.open, "UDP reply", func(f *frame, m []byte) {
				f.from, f.to, f.body = server, p.list.addr, udp(9, 4000, m)
				if mac != nil {
					f.src = mac
				}
			})
		}
		for _, flags := range []byte{flagRST, flagRST | flagACK, flagSYN | flagACK, flagACK} {
			c.forge(p.open, "TCP reply", func(f *frame, m []byte) {
				f.from, f.to, f.proto = server, p.list.addr, protoTCP
				f.body = segment{from: 443, to: 4002, seq: 1, ack: 2, flags: flags, payload: m}.encode(server, p.list.addr)
			})
		}
		// The sibling's flow goes on.
		c.control(p.hostSide, func(m []byte) []byte {
			return p.inbound(server, p.list.addr, protoUDP, udp(9, 4000, m)).encode()
		}, inbox+p.list.name)
	})
	p.add("from outside", "what no sandbox asked for, and replies from those whom it may not ask", func(c *kase) {
		in := func(from netip.Addr, to *box, what string, proto byte, body func(m []byte) []byte) {
			a := c.frame(p.hostSide, what, func(m []byte) []byte { return p.inbound(from, to.addr, proto, body(m)).encode() })
			a.places = []string{inbox + to.name, atTransit}
		}
		for _, b := range []*box{p.open, p.list, p.deny} {
			in(at(p.yes, 8), b, "UDP", protoUDP, func(m []byte) []byte { return udp(9, 4009, m) })
			in(at(p.yes, 8), b, "TCP", protoTCP, func(m []byte) []byte {
				return segment{from: 5000, to: servePort, seq: 1, flags: flagSYN, payload: m}.encode(at(p.yes, 8), b.addr)
			})
			in(at(p.yes, 8), b, "ping", protoICMP, func(m []byte) []byte { return icmp(8, 0, [4]byte{}, m) })
			in(at(p.yes, 8), b, "redirect", protoICMP, func(m []byte) []byte {
				return icmp(5, 1, [4]byte{10, 1, 2, 3}, frame{from: b.addr, to: at(p.yes, 1), proto: protoUDP, ttl: 9, body: udp(4000, 9, m)}.packet())
			})
		}
		c.honestly(p.open, func(f *frame, _ []byte) { f.to = at(p.yes, 9) })
		c.control(p.hostSide, func(m []byte) []byte { return p.inbound(at(p.yes, 9), p.open.addr, protoUDP, udp(9, 4000, m)).encode() }, inbox+p.open.name)
	})
}

// greeted is a control: the sibling's server answers on its tunnel, to the host. All
// cases share it.
func (p *plan) greeted() *attempt {
	if p.greeting == nil {
		n, _ := p.judge.marker()
		p.greeting = &attempt{what: "the tunnel, from the host", n: n, places: []string{atTunnel}}
		if p.greeting.err = hear(p.list.tunnel, greeting); p.greeting.err == nil {
			p.judge.note(n, atTunnel)
		}
	}
	return p.greeting
}

// atTunnel is where a tunnel's greeting is heard.
const atTunnel = "a tunnel's end on the host"

// never: what no policy admits, under one that admits everything else.
func never(p *plan) {
	to := func(name, what string, addrs ...string) {
		p.add(name, what, func(c *kase) {
			for _, s := range addrs {
				a := netip.MustParseAddr(s)
				c.udpTo(p.open, a, 9)
				c.tcpTo(p.open, a, 80)
			}
			c.plainly(p.open)
		})
	}
	to("metadata", "the clouds' metadata services", "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16")
	to("private 10/8", "addresses of RFC 1918", "10.0.0.1", "10.255.255.254")
	to("private 172.16/12", "addresses of RFC 1918", "172.16.0.1", "172.31.255.254")
	to("private 192.168/16", "addresses of RFC 1918", "192.168.0.1", "192.168.255.254")
	to("shared 100.64/10", "addresses of carriers' NAT", "100.64.0.1", "100.127.255.254")
	to("reserved", "benchmarks, protocol assignments, class E, this network", "198.18.0.1", "192.0.0.8", "240.0.0.1", "0.1.2.3")
	to("link-local", "addresses that are the node's business", "169.254.0.1", "169.254.255.254")
}

// names: DNS only where the policy has it, and from the node's resolver only.
func names(p *plan) {
	outside := func(name, what string, port uint16, kinds ...probe.Kind) {
		p.add(name, what+", under a list that does not name it", func(c *kase) {
			for _, k := range kinds {
				if k == probe.UDP {
					c.udpTo(p.list, at(p.no, 3), port)
				} else {
					c.tcpTo(p.list, at(p.no, 3), port)
				}
			}
			c.plainly(p.list)
		})
	}
	outside("DNS: directly", "a resolver outside", 53, probe.UDP, probe.TCP)
	outside("DNS: over TLS", "port 853 of an outside address", 853, probe.TCP, probe.UDP)
	outside("DNS: over HTTPS", "port 443 of an outside address", 443, probe.TCP, probe.UDP)
	query := func(t *probe.Try, _ []byte) { t.Payload = question() }
	resolver := netip.AddrPortFrom(gateway, 53)
	p.add("DNS: resolver under a list", "the node's resolver, which a list does not have", func(c *kase) {
		c.probe(p.list, "UDP", probe.UDP, resolver.String(), query)
		c.probe(p.list, "TCP", probe.TCP, resolver.String())
		c.plainly(p.list)
		c.answerControl(p.open, probe.UDP, resolver.String(), query)
		c.answerControl(p.open, probe.TCP, resolver.String())
	})
	p.add("DNS: resolver without a policy", "the node's resolver, before a policy", func(c *kase) {
		ask := func(b *box) func([]byte) []byte {
			return func([]byte) []byte {
				f := p.honest(b, gateway, nil)
				f.body = udp(4053, 53, question())
				return f.encode()
			}
		}
		connect := func(b *box) func([]byte) []byte {
			return func([]byte) []byte {
				f := p.honest(b, gateway, nil)
				f.proto, f.body = protoTCP, segment{from: 4054, to: 53, seq: 1, flags: flagSYN}.encode(b.addr, gateway)
				return f.encode()
			}
		}
		answer := func(a *attempt, b *box, proto byte, port uint16) {
			a.places = []string{inbox + b.name}
			p.judge.watch(a.n, dialled{proto, gateway, netip.AddrPortFrom(b.addr, port)})
		}
		answer(c.frame(p.deny, "UDP", ask(p.deny)), p.deny, protoUDP, 4053)
		answer(c.frame(p.deny, "TCP", connect(p.deny)), p.deny, protoTCP, 4054)
		answer(c.control(p.open, ask(p.open)), p.open, protoUDP, 4053)
		answer(c.control(p.open, connect(p.open)), p.open, protoTCP, 4054)
	})
}

// question asks for the one name that every node's resolver knows by itself, so that a
// run asks nobody outside.
func question() []byte {
	q := []byte{0x42, 0x42, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for _, label := range []string{"resolver", "brig", "internal"} {
		q = append(append(q, byte(len(label))), label...)
	}
	return append(q, 0, 0, 1, 0, 1)
}

// insideOnly: what a program can ask of the sandbox's kernel.
func insideOnly(p *plan) {
	p.add("inside: raw frames", "AF_PACKET in the sandbox, with a sibling's identity", func(c *kase) {
		c.probe(p.open, "AF_PACKET", probe.Packet, device, func(t *probe.Try, m []byte) {
			t.Payload = p.changed(p.list, m, nil)
		})
		c.plainly(p.open)
	})
	p.add("inside: raw packets", "raw sockets, with a sibling's address", func(c *kase) {
		c.probe(p.open, "raw socket", probe.Raw, netip.AddrPortFrom(at(p.yes, 1), 0).String(), func(t *probe.Try, m []byte) {
			t.Payload = p.honest(p.list, at(p.yes, 1), m).packet()
		})
		c.plainly(p.open)
	})
	p.add("inside: foreign address", "sockets bound to a sibling's and the host's address", func(c *kase) {
		for _, a := range []netip.Addr{p.list.addr, p.host.addr, gateway} {
			c.probe(p.open, "from "+a.String(), probe.UDP, netip.AddrPortFrom(at(p.yes, 1), 9).String(), func(t *probe.Try, _ []byte) { t.From = a.String() })
		}
		c.plainly(p.open)
	})
	p.add("inside: groups", "joined multicast groups and broadcasts", func(c *kase) {
		for _, s := range []string{"224.0.0.251:5353", "239.255.255.250:1900", fmt.Sprintf("255.255.255.255:%d", p.udp)} {
			c.probe(p.open, s, probe.Join, s)
		}
		c.plainly(p.open)
	})
	p.add("inside: IPv6", "IPv6 sockets to mapped, local and outside addresses", func(c *kase) {
		for _, s := range []string{
			fmt.Sprintf("[::ffff:%s]:%d", p.host.addr, p.tcp), fmt.Sprintf("[::1]:%d", p.tcp), fmt.Sprintf("[::]:%d", p.tcp),
			"[fd00:ec2::254]:80", "[64:ff9b::a00:1]:80",
		} {
			c.probe(p.open, "TCP "+s, probe.TCP, s)
			c.probe(p.open, "UDP "+s, probe.UDP, s)
		}
		c.plainly(p.open)
	})
}

// secondWall: should the transit's rules let something pass, the host's own do not. What
// is sent here begins behind the transit's rules.
func secondWall(p *plan) {
	behind := func(from netip.Addr, to netip.Addr, proto byte, body func(from, to netip.Addr, m []byte) []byte) func(m []byte) []byte {
		return func(m []byte) []byte {
			return frame{dst: p.host.mac, src: p.up.mac, kind: etherIPv4, from: from, to: to, proto: proto, ttl: 60, body: body(from, to, m)}.encode()
		}
	}
	datagram := func(_, _ netip.Addr, m []byte) []byte { return udp(4000, p.udp, m) }
	p.add("second wall: host", "datagrams to the host that the transit's rules did not see", func(c *kase) {
		for _, a := range append([]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("255.255.255.255")}, p.hosts...) {
			c.frame(p.upSide, "UDP "+a.String(), behind(p.open.addr, a, protoUDP, datagram)).places = []string{atListener}
			c.frame(p.upSide, "UDP "+a.String(), behind(p.up.addr, a, protoUDP, datagram)).places = []string{atListener}
		}
		c.control(p.upSide, behind(p.open.addr, p.host.addr, protoUDP, datagram)) // it comes as far as the link
		c.onHost("", "udp4", fmt.Sprintf("127.0.0.1:%d", p.udp), atListener)
	})
	p.add("second wall: answers", "the host answers nothing that the transit's rules did not see", func(c *kase) {
		request := func(_, _ netip.Addr, m []byte) []byte { return icmp(8, 0, [4]byte{0, 9, 0, 1}, m) }
		syn := func(from, to netip.Addr, m []byte) []byte {
			return segment{from: 4004, to: p.tcp, seq: 1, flags: flagSYN, payload: m}.encode(from, to)
		}
		c.frame(p.upSide, "ping", behind(p.open.addr, p.host.addr, protoICMP, request)).places = []string{atAnswer}
		// As the sandbox it would look like one that came through the transit.
		opened := c.frame(p.upSide, "TCP", behind(p.up.addr, p.host.addr, protoTCP, syn))
		opened.places = []string{atAnswer, atListener}
		p.judge.watch(opened.n, dialled{protoTCP, p.host.addr, netip.AddrPortFrom(p.up.addr, 4004)})
		c.control(p.upSide, behind(p.open.addr, p.host.addr, protoICMP, request))
	})
}
