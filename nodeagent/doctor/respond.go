package doctor

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"brig/nodeagent/clock"
)

// responder plays a server of the internet on the node's link, for one connection to a
// documentation address: it takes the handshake, acknowledges data, and sends a marker
// of its own again and again. Frames that it sends look to the transit namespace like
// the host's.
type responder struct {
	w      *world
	server netip.AddrPort
	fd     int
	take   *capture
	before int // the marker that it sends before the block
	text   [2][]byte

	mu     sync.Mutex
	client segment   // guarded by mu; the other end, as it is known
	seq    uint32    // guarded by mu; what it has sent
	open   bool      // guarded by mu
	got    int       // guarded by mu; segments with data
	shut   time.Time // guarded by mu; when the block was in force; zero: not yet
	extra  int       // guarded by mu; segments with data after that

	stop  chan struct{}
	ended sync.WaitGroup
}

// initial is the first sequence number of the server.
const initial = 1000

func (w *world) respond(server netip.AddrPort, before int, beforeText, afterText []byte) (*responder, error) {
	r := &responder{w: w, server: server, before: before, text: [2][]byte{beforeText, afterText}, stop: make(chan struct{})}
	var err error
	if r.fd, err = packetSocket("", w.host.name); err != nil {
		return nil, err
	}
	own := []netip.Addr{w.open.addr}
	if r.take, err = take("", w.host.name, incoming, ours(own), r.segment); err != nil {
		_ = unix.Close(r.fd)
		return nil, fmt.Errorf("answer on the node's link: %w", err)
	}
	r.ended.Go(r.talk)
	return r, nil
}

// segment from the sandbox.
func (r *responder) segment(f []byte) {
	d, ok := dial(f)
	if !ok || d != (dialled{protoTCP, r.w.open.addr, r.server}) {
		return
	}
	ip := f[14:]
	tcp := ip[int(ip[0]&15)*4:]
	if len(tcp) < 20 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	size := int(binary.BigEndian.Uint16(ip[2:])) - int(ip[0]&15)*4 - int(tcp[12]>>4)*4
	seq, flags := binary.BigEndian.Uint32(tcp[4:]), tcp[13]
	r.client = segment{to: binary.BigEndian.Uint16(tcp), from: r.server.Port()}
	switch {
	case flags&flagSYN != 0:
		r.client.ack, r.seq, r.open = seq+1, initial+1, false
		r.send(segment{seq: initial, flags: flagSYN | flagACK})
	case flags&flagFIN != 0:
		r.open = false
	default:
		r.client.ack, r.open = seq+uint32(size), true
		if size <= 0 {
			return
		}
		r.got++
		if !r.shut.IsZero() {
			r.extra++
		}
		r.send(segment{seq: r.seq, flags: flagACK})
	}
}

// send to the sandbox; mu is held. A frame that is lost is sent again by the next.
func (r *responder) send(s segment) {
	s.from, s.to, s.ack = r.client.from, r.client.to, r.client.ack
	body := s.encode(r.server.Addr(), r.w.open.addr)
	_, _ = unix.Write(r.fd, r.w.inbound(r.server.Addr(), r.w.open.addr, protoTCP, body).encode())
}

// talk sends the marker of the time before the block, then that of the time after it.
func (r *responder) talk() {
	ticker := time.NewTicker(flowEvery)
	defer ticker.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-ticker.C:
		}
		r.mu.Lock()
		if r.client.to != 0 && (r.open || !r.shut.IsZero()) {
			text := r.text[0]
			if !r.shut.IsZero() {
				text = r.text[1]
			}
			r.send(segment{seq: r.seq, flags: flagACK | flagPSH, payload: text})
			r.seq += uint32(len(text))
		}
		r.mu.Unlock()
	}
}

// await that the connection carries data both ways.
func (r *responder) await(ctx context.Context, d time.Duration) bool {
	for end := time.Now().Add(d); time.Now().Before(end); {
		r.mu.Lock()
		carries := r.got >= 3
		r.mu.Unlock()
		if carries && r.w.judge.saw(r.before, []string{inbox + r.w.open.name}) != "" {
			return true
		}
		if !clock.Pause(ctx, 5*time.Millisecond) {
			return false
		}
	}
	return false
}

// blocked tells that from now on nothing may pass.
func (r *responder) blocked() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = time.Now()
}

// late is how many segments came after that.
func (r *responder) late() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.extra
}

func (r *responder) close() {
	close(r.stop)
	r.ended.Wait()
	r.take.close()
	_ = unix.Close(r.fd)
}
