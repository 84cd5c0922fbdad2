package nft

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"brig/internal/netns"
)

// Sockets are kept for a while. Whoever closes one has the kernel wait until all that was
// deleted in its namespace is freed, which takes a grace period or two, with everybody
// else's changes held up meanwhile.
const (
	// idleTime bounds how long a namespace that was removed lives on by them.
	idleTime = 5 * time.Second
	// perMessage bounds the elements of one message: their attribute's length has 16
	// bits, and what does not fit would be cut off without an error.
	perMessage = 400
	// socketBuffer holds a whole transaction and the kernel's answers to it, in bytes.
	socketBuffer = 64 << 20
	// netlinkTime bounds what the kernel may take for one transaction.
	netlinkTime = 30 * time.Second
	// messageBuffer is what one answer of the kernel may be, in bytes. It fills no more
	// than what its reader has shown to take, and walks a set anew for each answer.
	messageBuffer = 64 << 10
)

// socket in a namespace, for either kind of use.
type socket struct {
	namespace uint64 // inode
	reads     *netlink.Conn
	writes    *nftables.Conn
	raw       *netlink.Conn // of writes
}

func (s *socket) close() {
	if s.reads != nil {
		_ = s.reads.Close()
	}
	if s.writes != nil {
		_ = s.writes.CloseLasting()
	}
}

// pool of idle sockets.
var pool struct {
	mu    sync.Mutex
	idle  []*socket
	since time.Time // when one was put back last
}

// takeSocket returns an idle socket of that kind in the namespace at path, "" for the
// caller's own, or a new one.
func takeSocket(path string, writes bool) (*socket, error) {
	at := path
	if at == "" {
		at = "/proc/thread-self/ns/net"
	}
	inode, err := netns.ID(at)
	if err != nil {
		return nil, fmt.Errorf("open the rules' namespace: %w", err)
	}
	pool.mu.Lock()
	for i, s := range pool.idle {
		if s.namespace == inode && (s.writes != nil) == writes {
			pool.idle = append(pool.idle[:i], pool.idle[i+1:]...)
			pool.mu.Unlock()
			return s, s.prepare()
		}
	}
	pool.mu.Unlock()
	ns, err := os.Open(at)
	if err != nil {
		return nil, fmt.Errorf("open the rules' namespace: %w", err)
	}
	defer ns.Close()
	s := &socket{namespace: inode}
	if writes {
		grip := func(c *netlink.Conn) error { s.raw = c; return nil }
		s.writes, err = nftables.New(nftables.WithNetNSFd(int(ns.Fd())), nftables.WithSockOptions(grip), nftables.AsLasting())
	} else {
		s.reads, err = netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(ns.Fd()), MessageBufferSize: messageBuffer})
		s.raw = s.reads
	}
	if err != nil {
		return nil, err
	}
	// Refused without CAP_NET_ADMIN, and then so is everything that follows.
	_, _ = s.raw.SetReadBuffer(socketBuffer), s.raw.SetWriteBuffer(socketBuffer)
	return s, s.prepare()
}

func (s *socket) prepare() error { return s.raw.SetDeadline(time.Now().Add(netlinkTime)) }

// putSocket back. One on which anything failed is closed instead: what was left unread
// would be taken for the next answer.
func putSocket(s *socket, failed bool) {
	if failed {
		go s.close()
		return
	}
	pool.mu.Lock()
	defer pool.mu.Unlock()
	pool.idle = append(pool.idle, s)
	pool.since = time.Now()
	if len(pool.idle) == 1 {
		time.AfterFunc(idleTime, closeIdle)
	}
}

// closeIdle closes all that is idle once nobody has used any for a while.
func closeIdle() {
	pool.mu.Lock()
	defer pool.mu.Unlock()
	if quiet := time.Since(pool.since); quiet < idleTime {
		time.AfterFunc(idleTime-quiet, closeIdle)
		return
	}
	for _, s := range pool.idle {
		go s.close()
	}
	pool.idle = nil
}
