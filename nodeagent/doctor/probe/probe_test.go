package probe

import (
	"bytes"
	"encoding/json"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestTries against this machine's loopback: what came of each is told in the words
// that the doctor knows.
func TestTries(t *testing.T) {
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	heard := make(chan string, 1)
	go func() {
		conn, err := tcp.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buffer := make([]byte, 64)
		n, _ := conn.Read(buffer)
		heard <- string(buffer[:n])
	}()
	echo, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		buffer := make([]byte, 64)
		for {
			n, from, err := echo.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = echo.WriteTo(buffer[:n], from)
		}
	}()
	stray, err := net.ListenPacket("udp4", "127.0.0.1:0") // somebody else answers
	if err != nil {
		t.Fatal(err)
	}
	defer stray.Close()
	other, err := net.ListenPacket("udp4", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	go func() {
		if _, from, err := stray.ReadFrom(make([]byte, 64)); err == nil {
			_, _ = other.WriteTo([]byte("x"), from)
		}
	}()
	mute, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	_ = closed.Close()
	var out bytes.Buffer
	if err := Run(Plan{Patience: 200 * time.Millisecond, Tries: []Try{
		{ID: 1, Kind: TCP, To: tcp.Addr().String(), Payload: []byte("hello")},
		{ID: 2, Kind: TCP, To: nobody},
		{ID: 3, Kind: UDP, To: echo.LocalAddr().String(), Payload: []byte("x")},
		{ID: 4, Kind: UDP, To: mute.LocalAddr().String(), Payload: []byte("x"), TTL: 3},
		{ID: 5, Kind: UDP, To: nobody, Payload: []byte("x")},
		{ID: 6, Kind: "sorcery", To: nobody},
		{ID: 7, Kind: UDP, To: "nowhere"},
		{ID: 8, Kind: UDP, To: stray.LocalAddr().String(), Payload: []byte("x")},
	}}, &out); err != nil {
		t.Fatal(err)
	}
	var got []Outcome
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := []Outcome{
		{1, Connected}, {2, "connection refused"}, {3, Answered}, {4, Sent}, {5, Sent},
		{6, `no such try: "sorcery"`}, {7, "not an ip:port"}, {8, Sent},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if said := <-heard; said != "hello" {
		t.Errorf("the listener heard %q", said)
	}
	for i, o := range got {
		if want := i == 0 || i == 2; o.Got() != want {
			t.Errorf("%+v: got an answer: %t", o, o.Got())
		}
	}
}

// TestFlow writes until the other end resets it, and tells so.
func TestFlow(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Write([]byte("abc"))
		_, _ = conn.Read(make([]byte, 1)) // the first of two: the rest makes a close a reset
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}()
	o := FlowPlan{To: l.Addr().String(), For: 5 * time.Second, Every: time.Millisecond, Payload: []byte("xy")}.run()
	if o.Wrote == 0 || o.Read > 3 || o.Ended == "" {
		t.Errorf("%+v", o)
	}
	if o := (FlowPlan{To: l.Addr().String(), For: 50 * time.Millisecond, Every: time.Millisecond, Payload: []byte("xy")}).run(); o.Ended != "" || o.Wrote == 0 {
		t.Errorf("to its end: %+v", o)
	}
	_ = l.Close()
	if o := (FlowPlan{To: l.Addr().String(), For: time.Second}).run(); o.Ended != "connect: connection refused" || o.Wrote != 0 {
		t.Errorf("to nobody: %+v", o)
	}
}
