package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"brig/internal/config"
	"brig/internal/transit"
	brigv1 "brig/nodeagent/api/brig/v1"
)

// The ports of the sandbox whose tunnels are measured, and what serves there. Each tells
// that it is there before the clock starts, for a program's start is not a tunnel's.
const (
	echoes = 7  // sends back
	takes  = 9  // reads to the end, and says that it has
	gives  = 10 // waits for a word, and writes
)

func servers(bytes int) string {
	return fmt.Sprintf(`
nc -ll -p %d -e sh -c 'echo; exec cat' &
nc -ll -p %d -e sh -c 'echo; cat >/dev/null; echo' &
exec nc -ll -p %d -e sh -c 'echo; read x; exec dd if=/dev/zero bs=65536 count=%d'`, echoes, takes, gives, bytes/65536)
}

// way to a sandbox: straight from the transit namespace, or through a tunnel.
type way struct {
	name string
	ours bool
	dial func(port uint16) (socket, error)
}

// tunnelled is a sandbox with raw tunnels, and the two ways to it.
type tunnelled struct {
	id   string
	ways []way
}

// openTunnelled makes one; removal is the caller's, even on an error.
func (n *testNode) openTunnelled(ctx context.Context, bytes int) (*tunnelled, error) {
	request := &brigv1.CreateRequest{Image: imageName, Argv: []string{"/bin/sh", "-c", servers(bytes)}, Network: &brigv1.NetworkPolicy{CidrAllowlist: &brigv1.CidrList{}}}
	for _, port := range []uint32{echoes, takes, gives} {
		request.Ports = append(request.Ports, &brigv1.Port{SandboxPort: port, Kind: brigv1.TunnelKind_TUNNEL_KIND_TCP})
	}
	created, err := n.sandboxes.Create(ctx, connect.NewRequest(request))
	if err != nil {
		return &tunnelled{}, err
	}
	s := created.Msg.GetSandbox()
	t := &tunnelled{id: s.GetId()}
	cfg, err := config.Load(filepath.Join(n.dir, "config.toml"))
	if err != nil {
		return t, err
	}
	address, err := netip.ParseAddr(s.GetAddress())
	if err != nil {
		return t, err
	}
	through := map[uint16]netip.AddrPort{}
	for _, p := range s.GetTunnels() {
		host, err := netip.ParseAddr(p.GetHost())
		if err != nil {
			return t, err
		}
		through[uint16(p.GetSandboxPort())] = netip.AddrPortFrom(host, uint16(p.GetPort()))
	}
	t.ways = []way{
		{"dialled directly", false, func(port uint16) (socket, error) {
			return dialFrom(transit.Path(&cfg), netip.AddrPortFrom(address, port))
		}},
		{"through the tunnel", true, func(port uint16) (socket, error) { return dialFrom("/proc/self/ns/net", through[port]) }},
	}
	return t, t.await()
}

// await returns when everything in the sandbox serves.
func (t *tunnelled) await() error {
	for _, port := range []uint16{echoes, takes, gives} {
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			s, err := t.ways[0].open(port)
			if err == nil {
				err = s.close()
			}
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("port %d of the sandbox: %w", port, err)
			}
		}
	}
	return nil
}

func dialFrom(namespace string, to netip.AddrPort) (socket, error) {
	s, err := openSocket(namespace, unix.SOCK_STREAM)
	if err != nil {
		return -1, err
	}
	err = unix.SetsockoptInt(int(s), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err == nil {
		err = unix.Connect(int(s), sockaddr(to))
	}
	if err != nil {
		return -1, errors.Join(err, s.close())
	}
	return s, nil
}

// open dials and waits until the program at the other end runs.
func (w way) open(port uint16) (socket, error) {
	s, err := w.dial(port)
	if err != nil {
		return -1, err
	}
	if err := move(s.read, 1); err != nil {
		return -1, errors.Join(fmt.Errorf("wait for the program: %w", err), s.close())
	}
	return s, nil
}

// measureTunnelThroughput is what one connection carries each way, through a raw tunnel
// and straight to the sandbox. More is better.
func measureTunnelThroughput(ctx context.Context, n *testNode, o options, rng *rand.Rand, progress io.Writer) (_ []series, err error) {
	t, err := n.openTunnelled(ctx, o.bytes)
	defer func() { err = errors.Join(err, n.removeSandbox(ctx, t.id)) }()
	if err != nil {
		return nil, err
	}
	var all []series
	var once []func() (time.Duration, error)
	for _, d := range []struct {
		name string
		do   func(way, int) (time.Duration, error)
	}{{"tunnel: throughput in", give}, {"tunnel: throughput out", take}} {
		for _, w := range t.ways {
			all = append(all, series{measure: d.name, variant: w.name, unit: "Gbit/s", ours: w.ours})
			once = append(once, func() (time.Duration, error) { return d.do(w, o.bytes) })
		}
	}
	err = interleave(ctx, rng, len(all), 1+o.rounds, "tunnel: throughput", progress, func(i, round int) {
		took, err := once[i]()
		switch {
		case round == 0:
		case err != nil:
			all[i].failures = append(all[i].failures, err)
		default:
			all[i].samples = append(all[i].samples, float64(o.bytes)*8/float64(took.Nanoseconds()))
		}
	})
	return all, err
}

// give sends bytes and returns how long it took until the sandbox had read them.
func give(w way, bytes int) (_ time.Duration, err error) {
	s, err := w.open(takes)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	begin := time.Now()
	err = move(s.write, bytes)
	if err == nil {
		err = unix.Shutdown(int(s), unix.SHUT_WR)
	}
	if err == nil {
		err = move(s.read, 1)
	}
	return time.Since(begin), err
}

// take asks for bytes and returns how long it took until they were here.
func take(w way, bytes int) (_ time.Duration, err error) {
	s, err := w.open(gives)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	begin := time.Now()
	if _, err := s.write([]byte("\n")); err != nil {
		return 0, err
	}
	err = move(s.read, bytes)
	return time.Since(begin), err
}

// measureTunnelRoundTrip is 64 bytes to a program in the sandbox and back, and what the
// tunnel adds to it: the difference of the two in each round. A sample is the mean of
// o.batch of them.
func measureTunnelRoundTrip(ctx context.Context, n *testNode, o options, rng *rand.Rand, progress io.Writer) (_ []series, err error) {
	t, err := n.openTunnelled(ctx, o.bytes)
	defer func() { err = errors.Join(err, n.removeSandbox(ctx, t.id)) }()
	if err != nil {
		return nil, err
	}
	var all []series
	var lines []echo
	for _, w := range t.ways {
		s, err := w.open(echoes)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.close()) }()
		all = append(all, series{measure: "tunnel: round trip", variant: w.name, unit: "µs", ours: w.ours})
		lines = append(lines, echo{client: s})
	}
	added := series{measure: "tunnel: added round trip", variant: "raw TCP", unit: "µs", ours: true}
	took := make([]time.Duration, len(all))
	done := 0
	err = interleave(ctx, rng, len(all), 1+often*o.rounds, "tunnel: round trip", progress, func(i, round int) {
		var err error
		took[i], err = lines[i].roundTrips(o.batch)
		all[i].take(round, took[i], time.Microsecond, err)
		if done++; done%len(all) == 0 && err == nil {
			added.take(round, took[1]-took[0], time.Microsecond, nil)
		}
	})
	return append(all, added), err
}
