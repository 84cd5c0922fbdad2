// Package probe is what the doctor tries from inside a sandbox, and how it tells the
// program that does it there what to try. One process makes all tries of a sandbox
// side by side and prints what came of each; it judges nothing, because a sandbox's
// word proves nothing: the doctor looks at the node.
//
// Every try ends within its patience, and the number under way at once is bounded.
package probe

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// Kind of a try.
type Kind string

// Kinds of tries. All send Payload, where they come that far.
const (
	TCP    Kind = "tcp"    // connect
	UDP    Kind = "udp"    // send a datagram and wait for an answer
	Ping   Kind = "ping"   // ICMP echo by a socket for it
	Raw    Kind = "raw"    // an IP packet, header and all
	Packet Kind = "packet" // an Ethernet frame
	Join   Kind = "join"   // join a multicast group, then send to it
)

// Try is one thing to try.
type Try struct {
	ID   int    `json:"id"`
	Kind Kind   `json:"kind"`
	To   string `json:"to"` // address:port; of Packet, the link
	// From is an address to send from; empty: the kernel's choice.
	From string `json:"from,omitempty"`
	// TTL of what is sent; 0: the kernel's.
	TTL int `json:"ttl,omitempty"`
	// Payload of a datagram or connection; of Raw and Packet the whole packet.
	Payload []byte `json:"payload"`
}

// Plan is all that one process tries.
type Plan struct {
	Patience time.Duration `json:"patience"` // of one try
	Tries    []Try         `json:"tries"`
}

// Words for what came of a try; any other is the kernel's error.
const (
	Connected = "connected" // TCP: the handshake was completed
	Answered  = "answered"  // something came back
	Sent      = "sent"      // it was sent, and nothing came back
)

// Outcome of one try.
type Outcome struct {
	ID   int    `json:"id"`
	Said string `json:"said"`
}

// Got tells whether somebody answered.
func (o Outcome) Got() bool { return o.Said == Connected || o.Said == Answered }

// width is how many tries are under way at once.
const width = 48

// Run makes the tries and writes the outcomes as one JSON document.
func Run(plan Plan, out io.Writer) error {
	outcomes := make([]Outcome, len(plan.Tries))
	slots := make(chan struct{}, width)
	var all sync.WaitGroup
	for i, t := range plan.Tries {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			outcomes[i] = Outcome{ID: t.ID, Said: t.run(plan.Patience)}
		})
	}
	all.Wait()
	return json.NewEncoder(out).Encode(outcomes)
}

func (t Try) run(patience time.Duration) string {
	var answered bool
	var err error
	switch t.Kind {
	case TCP:
		if err = t.connect(patience); err == nil {
			return Connected
		}
	case UDP, Join:
		answered, err = t.datagram(patience)
	case Ping:
		answered, err = t.ping(patience)
	case Raw:
		err = t.raw()
	case Packet:
		err = t.packet()
	default:
		err = fmt.Errorf("no such try: %q", t.Kind)
	}
	switch {
	case err != nil:
		return err.Error()
	case answered:
		return Answered
	default:
		return Sent
	}
}
