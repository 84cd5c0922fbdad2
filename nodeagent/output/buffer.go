package output

import "sync"

const (
	// chunk is the most that is sent at once: large enough that the cost of a message does
	// not show (with a quarter of it, a stream had three quarters of the throughput), and
	// with what is around it less than the largest frame that our clients take.
	chunk = 15 << 16
	// chunks that are out at once, of all streams. A reader that takes nothing holds one,
	// and the message that was made of it, for as long as it likes, and there may be
	// thousands of them; beyond chunks a piece is small.
	chunks = 64
	small  = 16 << 10
)

// Most streams have nothing to say, and need no buffer.
var (
	large       = make(chan struct{}, chunks) // a token for each that is out
	largeBuffer = sync.Pool{New: func() any { return new([chunk]byte) }}
	smallBuffer = sync.Pool{New: func() any { return new([small]byte) }}
)

// borrow a buffer for one piece.
func borrow() (buf []byte, free func()) {
	select {
	case large <- struct{}{}:
		b := largeBuffer.Get().(*[chunk]byte)
		return b[:], func() { largeBuffer.Put(b); <-large }
	default:
		b := smallBuffer.Get().(*[small]byte)
		return b[:], func() { smallBuffer.Put(b) }
	}
}
