package tunnel

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"brig/nodeagent/record"
)

// TestLimits: each limit by itself refuses the connection beyond it, by a reset, and
// nothing else; a place that is left is another's.
func TestLimits(t *testing.T) {
	for name, tc := range map[string]struct {
		limits Limits
		// opened are from and tunnel of connections; the last one is refused, until leaves
		// has left.
		opened []visitor
		leaves visitor
	}{
		"source": {
			Limits{Node: 9, Sandbox: 9, Tunnel: 9, Source: 2},
			[]visitor{{"127.0.0.2", 0}, {"127.0.0.2", 0}, {"127.0.0.3", 0}, {"127.0.0.2", 1}, {"127.0.0.2", 0}},
			visitor{"127.0.0.2", 0},
		},
		"tunnel": {
			Limits{Node: 9, Sandbox: 9, Tunnel: 2, Source: 9},
			[]visitor{{"127.0.0.2", 0}, {"127.0.0.3", 0}, {"127.0.0.2", 1}, {"127.0.0.4", 0}},
			visitor{"127.0.0.3", 0},
		},
		"sandbox": {
			Limits{Node: 9, Sandbox: 3, Tunnel: 2, Source: 9},
			[]visitor{{"127.0.0.2", 0}, {"127.0.0.2", 1}, {"127.0.0.3", 0}, {"127.0.0.2", 2}, {"127.0.0.4", 1}},
			visitor{"127.0.0.3", 0},
		},
		"node": {
			Limits{Node: 3, Sandbox: 2, Tunnel: 2, Source: 2},
			[]visitor{{"127.0.0.2", 0}, {"127.0.0.2", 1}, {"127.0.0.2", 2}, {"127.0.0.4", 2}},
			visitor{"127.0.0.2", 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pool := NewPool(tc.limits)
			one, two := pool.Share(), pool.Share()
			echo := service(t, func(conn *net.TCPConn) { _, _ = io.Copy(conn, conn); conn.Close() })
			var addresses []string
			for _, share := range []*Share{one, one, two} { // tunnel 2 is another sandbox's
				_, address := openWith(t, Config{Kind: record.TCP, Dial: echo, Share: share})
				addresses = append(addresses, address)
			}
			end := len(tc.opened) - 1
			places := map[visitor]net.Conn{}
			for i, v := range tc.opened {
				conn, err := v.visit(t, addresses)
				if (err != nil) != (i == end) {
					t.Fatalf("connection %d, %+v: %v", i, v, err)
				}
				if err == nil {
					places[v] = conn
				}
			}
			places[tc.leaves].Close()
			await(t, "its place", func() bool { _, err := tc.opened[end].visit(t, addresses); return err == nil })
		})
	}
}

type visitor struct {
	from string
	at   int
}

// visit opens a connection and is answered, or not.
func (v visitor) visit(t *testing.T, addresses []string) (net.Conn, error) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(v.from)}}
	conn, err := d.DialContext(t.Context(), "tcp", addresses[v.at])
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	return conn, spoken(conn)
}

func spoken(conn net.Conn) error {
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

// TestSourceOfIPv6: everybody has a /64, so that is what is counted.
func TestSourceOfIPv6(t *testing.T) {
	for in, want := range map[string]string{"192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::", "2001:db8::ffff:1": "2001:db8::", "2001:db8:0:1::1": "2001:db8:0:1::", "fe80::1%lo": "fe80::"} {
		if got := counted(netip.MustParseAddr(in)); got != netip.MustParseAddr(want) {
			t.Errorf("%s counts as %s, want %s", in, got, want)
		}
	}
}

// TestAfford: half of the descriptors are nobody's.
func TestAfford(t *testing.T) {
	got, err := Limits{Node: 1 << 40, Sandbox: 1, Tunnel: 2, Source: 3}.Afford()
	if err != nil || got.Node <= 0 || got.Node >= 1<<40 || got.Sandbox != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := (Limits{Node: 1}).Afford(); err != nil || got.Node != 1 {
		t.Errorf("%+v, %v; want what was asked for", got, err)
	}
}

// TestBegin: a connection keeps a sandbox awake while it leads there, and one that does
// not get so far never does.
func TestBegin(t *testing.T) {
	var awake, ever atomic.Int32
	begin := func() func() { awake.Add(1); ever.Add(1); return func() { awake.Add(-1) } }
	_, address := openWith(t, Config{Kind: record.TCP, Begin: begin, Dial: service(t, func(conn *net.TCPConn) { _, _ = io.Copy(conn, conn); conn.Close() })})
	conn, err := visitor{"127.0.0.2", 0}.visit(t, []string{address})
	if err != nil || awake.Load() != 1 {
		t.Errorf("%v; awake %d, want 1", err, awake.Load())
	}
	conn.Close()
	await(t, "its end", func() bool { return awake.Load() == 0 })
	_, closed := openWith(t, Config{Kind: record.TCP, Begin: begin, Dial: func(context.Context) (net.Conn, error) { return nil, io.EOF }})
	if err := expectReset(closed); err != nil {
		t.Error(err)
	}
	if n := ever.Load(); n != 1 {
		t.Errorf("began %d times, want 1", n)
	}
}
