package socket

import (
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	// refusals bounds the connections that are open only to be told why they are refused.
	refusals = 64
	// refusalTime is how long that may take.
	refusalTime = 2 * time.Second
)

// Gate says who may have one more connection; leave gives it back.
type Gate interface {
	Enter(uid uint32) (leave func(), err error)
}

// Admit returns a listener whose connections know their callers and have entered by door.
func Admit(l *net.UnixListener, door *Door) net.Listener {
	return &admitting{UnixListener: l, door: door}
}

type admitting struct {
	*net.UnixListener
	door *Door
}

// Accept waits for somebody to serve, or to refuse with a word.
func (a *admitting) Accept() (net.Conn, error) {
	for {
		conn, err := a.AcceptUnix()
		if err != nil {
			return nil, err
		}
		c := &Conn{Conn: conn}
		if c.Enter(a.door, identify(conn)) {
			return c, nil
		}
		_ = c.Close()
	}
}

// Door lets in connections whose callers are known, counted by a gate. A caller whom the
// gate does not let in is let in for an instant to be told why, while few others are;
// else the connection is closed without a word.
type Door struct {
	gate  Gate
	log   *slog.Logger
	slots chan struct{}
}

// NewDoor returns a door to what gate counts.
func NewDoor(gate Gate, log *slog.Logger) *Door {
	return &Door{gate: gate, log: log, slots: make(chan struct{}, refusals)}
}

// Conn is a connection that knows its caller once it has entered.
type Conn struct {
	net.Conn
	caller Caller
	leave  func()
	once   sync.Once
}

// Enter says who the caller is, before anybody else uses the connection. False: it is
// to be closed at once.
func (c *Conn) Enter(d *Door, caller Caller) bool {
	c.caller = caller
	if c.caller.Refused == nil {
		c.leave, c.caller.Refused = d.gate.Enter(caller.UID)
	}
	if c.caller.Refused == nil {
		return true
	}
	select {
	case d.slots <- struct{}{}:
	default:
		c.leave = nil
		d.log.Debug("a connection is refused without a word", "uid", caller.UID, "principal", caller.Principal)
		return false
	}
	timer := time.AfterFunc(refusalTime, func() { _ = c.Conn.Close() })
	c.leave = func() { timer.Stop(); <-d.slots }
	return true
}

// Caller is who is at the other end.
func (c *Conn) Caller() Caller { return c.caller }

// Close closes the connection and gives back its place.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	if c.leave != nil {
		c.once.Do(c.leave)
	}
	return err
}
