package denials

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"brig/internal/netns"
	"brig/internal/netpolicy/nft"
	"brig/internal/require"
)

func FuzzParse(f *testing.F) {
	message, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: attrPrefix, Data: []byte("brig/policy\x00")}, {Type: attrInDevice, Data: []byte{0, 0, 0, 7}}, {Type: attrPayload, Data: []byte{0x45}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append([]byte{unix.AF_INET, 0, 0x1e, 0x83}, message...))
	f.Add([]byte{2, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, ok := parse(netlink.Message{Header: netlink.Header{Type: messagePacket}, Data: b})
		if ok {
			_ = decode(l.packet)
		}
	})
}

func TestParse(t *testing.T) {
	for want, attrs := range map[string][]netlink.Attribute{
		"policy 7 45 true": {{Type: attrPrefix, Data: []byte("brig/policy\x00")}, {Type: attrInDevice, Data: []byte{0, 0, 0, 7}}, {Type: attrPayload, Data: []byte{0x45}}},
		"never 0  true":    {{Type: attrPrefix, Data: []byte("brig/never")}},
		" 0  false":        {{Type: attrPrefix, Data: []byte("somebody else's\x00")}, {Type: attrInDevice, Data: []byte{7}}},
	} {
		data, err := netlink.MarshalAttributes(attrs)
		if err != nil {
			t.Fatal(err)
		}
		l, ok := parse(netlink.Message{Header: netlink.Header{Type: messagePacket}, Data: append(make([]byte, nfgenmsg), data...)})
		if !ok {
			l.reason = ""
		}
		if got := fmt.Sprintf("%s %d %x %t", l.reason, l.device, l.packet, ok); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if _, ok := parse(netlink.Message{Header: netlink.Header{Type: messageConfig}, Data: make([]byte, 64)}); ok {
		t.Error("a message of another kind is taken for a packet")
	}
}

// Every reason of the rules is one that is counted apart.
func TestReasonsAreThoseOfTheRules(t *testing.T) {
	for _, r := range nft.Reasons {
		if !slices.Contains(reasons, Reason(r)) {
			t.Errorf("the rules deny for %s", r)
		}
	}
}

// place is a throwaway namespace that stands for the transit one.
type place struct{ name string }

func (p place) Identity() (string, error) {
	id, err := netns.ID(netns.Path(p.name))
	return fmt.Sprint(id), err
}

func (p place) Do(fn func() error) error { return netns.Do(netns.Path(p.name), fn) }

// rules log what goes to port 9 of loopback, with a limit that the test does not reach.
const rules = `table inet t {
	chain c {
		type filter hook input priority 0; policy accept;
		udp dport 9 log prefix "brig/policy" group 7811
		udp dport 10 log prefix "not ours" group 7811
	}
}`

// build makes the namespace anew, with loopback and the rules.
func (p place) build(t *testing.T) {
	t.Helper()
	if err := errors.Join(netns.Delete(p.name), netns.Create(p.name)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"ip", "link", "set", "lo", "up"}, {"nft", rules}} {
		cmd := exec.CommandContext(t.Context(), "ip", append([]string{"netns", "exec", p.name}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
}

func (p place) send(t *testing.T, port int) {
	t.Helper()
	err := p.Do(func() error {
		conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			return err
		}
		_, err = conn.Write([]byte("x"))
		return errors.Join(err, conn.Close())
	})
	if err != nil && !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatal(err)
	}
}

// TestTheKernelIsHeard with real rules, and again after the namespace was made anew.
func TestTheKernelIsHeard(t *testing.T) {
	require.Net(t)
	p := place{fmt.Sprintf("brig-denials-%d", os.Getpid())}
	p.build(t)
	defer func() {
		if err := netns.Delete(p.name); err != nil {
			t.Error(err)
		}
	}()
	got := make(chan Denial, 64)
	w := New(Config{Sink: func(d Denial) {
		select {
		case got <- d:
		default:
		}
	}, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Keep(ctx, p) }()
	defer func() { cancel(); <-done }()
	hear := func() {
		t.Helper()
		for deadline := time.Now().Add(15 * time.Second); ; {
			p.send(t, 10)
			p.send(t, 9)
			select {
			case d := <-got:
				line := fmt.Sprintf("%s %s %s", d.Link, d.Reason, text(d.Flow))
				if !strings.HasPrefix(line, "lo policy udp 127.0.0.1:") || !strings.HasSuffix(line, " 127.0.0.1:9") {
					t.Fatalf("heard %s", line)
				}
				return
			case <-time.After(200 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				t.Fatal("nothing is heard")
			}
		}
	}
	hear()
	p.build(t)
	for len(got) > 0 {
		<-got
	}
	time.Sleep(window) // what was held back of the old one
	for len(got) > 0 {
		<-got
	}
	hear()
}

// TestAnOverrunIsNotTheEnd: more than the buffer holds is counted, and what comes
// later is heard.
func TestAnOverrunIsNotTheEnd(t *testing.T) {
	require.Net(t)
	p := place{fmt.Sprintf("brig-overrun-%d", os.Getpid())}
	p.build(t)
	defer func() {
		if err := netns.Delete(p.name); err != nil {
			t.Error(err)
		}
	}()
	lost, heard := make(chan struct{}, 1024), make(chan struct{}, 1)
	w := New(Config{Sink: func(Denial) {
		select {
		case heard <- struct{}{}:
		default:
		}
	}, Lost: func() {
		select {
		case lost <- struct{}{}:
		default:
		}
	}, Log: slog.New(slog.DiscardHandler)})
	var conn *netlink.Conn
	l := &links{}
	if err := p.Do(func() (err error) {
		if conn, err = open(); err != nil {
			return err
		}
		return l.open()
	}); err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if err := conn.SetReadBuffer(4096); err != nil { // one batch at most
		t.Fatal(err)
	}
	for range 2000 {
		p.send(t, 9)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.read(conn, l) }()
	select {
	case <-lost:
	case err := <-ended:
		t.Fatalf("an overrun ended it: %v", err)
	case <-time.After(10 * time.Second):
		t.Fatal("no overrun was noticed")
	}
	w.flush()
	for len(heard) > 0 {
		<-heard
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		p.send(t, 9)
		select {
		case <-heard:
			_ = conn.Close()
			<-ended
			return
		case err := <-ended:
			t.Fatalf("an overrun ended it: %v", err)
		case <-time.After(200 * time.Millisecond):
			w.flush()
		}
		if time.Now().After(deadline) {
			t.Fatal("after an overrun nothing is heard")
		}
	}
}
