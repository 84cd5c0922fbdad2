package probe

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"time"
)

// Serve greets whoever connects, for ever. It is the sibling that nobody may reach but
// by its tunnel.
func Serve(address, greeting string) error {
	l, err := net.Listen("tcp4", address)
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = io.WriteString(conn, greeting+"\n")
		_ = conn.Close()
	}
}

// FlowPlan is one connection that goes on for a while.
type FlowPlan struct {
	To    string        `json:"to"`
	For   time.Duration `json:"for"`
	Every time.Duration `json:"every"`
	// Payload is sent again and again, as one segment each time.
	Payload []byte `json:"payload"`
}

// FlowOutcome is what a Flow saw.
type FlowOutcome struct {
	Wrote int    `json:"wrote"` // times
	Read  int    `json:"read"`  // bytes
	Ended string `json:"ended"` // the error that ended it; "" if its time did
}

// Flow connects and writes until its time is over or the connection is.
func Flow(plan FlowPlan, out io.Writer) error {
	return json.NewEncoder(out).Encode(plan.run())
}

func (p FlowPlan) run() (o FlowOutcome) {
	conn, err := net.DialTimeout("tcp4", p.To, p.For)
	if err != nil {
		o.Ended = fmt.Sprintf("connect: %v", brief(err))
		return o
	}
	defer conn.Close()
	end := time.Now().Add(p.For)
	_ = conn.SetDeadline(end)
	read := make(chan int)
	go func() {
		total, buffer := 0, make([]byte, 2048)
		for {
			n, err := conn.Read(buffer)
			total += n
			if err != nil {
				read <- total
				return
			}
		}
	}()
	for time.Now().Before(end) {
		if _, err := conn.Write(p.Payload); err != nil {
			o.Ended = brief(err).Error()
			break
		}
		o.Wrote++
		time.Sleep(p.Every)
	}
	_ = conn.SetDeadline(time.Now())
	o.Read = <-read
	return o
}
