package tunnel

import (
	"golang.org/x/sys/unix"
)

// The pipes through which bytes go from socket to socket without being copied. They
// are lent while bytes are under way, so their number is what connections move at an
// instant, not how many there are.
const (
	pipeSize = 512 << 10
	// maxPipes at once, of all tunnels; whoever gets none copies. Of those that nobody
	// has, a few are kept.
	maxPipes  = 64
	idlePipes = 4
)

// pipe is empty whenever it is not lent.
type pipe struct{ read, write int }

// idle holds pipes that are lent to nobody, made a token for each that there is.
var (
	idle = make(chan pipe, idlePipes)
	made = make(chan struct{}, maxPipes)
)

// borrow returns an empty pipe, unless all that there may be are lent.
func borrow() (pipe, bool) {
	select {
	case p := <-idle:
		return p, true
	default:
	}
	select {
	case made <- struct{}{}:
	default:
		return pipe{}, false
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		<-made
		return pipe{}, false
	}
	// The kernel's own size does, only slower.
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)
	return pipe{fds[0], fds[1]}, true
}

// back takes p, which is empty.
func (p pipe) back() {
	select {
	case idle <- p:
	default:
		p.drop()
	}
}

// drop takes p with whatever is in it.
func (p pipe) drop() {
	_ = unix.Close(p.read)
	_ = unix.Close(p.write)
	<-made
}
