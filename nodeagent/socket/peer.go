package socket

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Caller is who is at the other end of a connection, as it was when that was made.
type Caller struct {
	UID uint32
	// PID of the process that connected; 0 for one that is not on this machine.
	PID int32
	// Principal is the common name of a certificate; empty for a local caller.
	Principal string
	// Refused is why nothing that it asks is done; nil for those who are served.
	Refused error
}

// Local tells whether the caller is a process of this machine.
func (c Caller) Local() bool { return c.Principal == "" }

type callerKey struct{}

// With keeps who calls.
func With(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// From is the caller that With kept. One who is not known is refused.
func From(ctx context.Context) Caller {
	c, ok := ctx.Value(callerKey{}).(Caller)
	if !ok {
		c.Refused = errdefs.ErrPermissionDenied.WithMessage("the peer of the connection is not known")
	}
	return c
}

// Peer is the uid of a caller who is served.
func Peer(ctx context.Context) (uint32, error) {
	c := From(ctx)
	return c.UID, c.Refused
}

// Known is a connection that knows its caller.
type Known interface {
	Caller() Caller
}

// WithPeer is a http.Server's ConnContext: it keeps who is at the other end of conn, or of
// what TLS is spoken over. Of any other connection nobody knows.
func WithPeer(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	if k, ok := conn.(Known); ok {
		return With(ctx, k.Caller())
	}
	return ctx
}

// identify reads who connected. The kernel names a caller in a user namespace by the uid
// that it has outside. What has no uid here gets the overflow uid, which is not one
// somebody but all of those: what one of them made, the others would own.
func identify(conn *net.UnixConn) Caller {
	cred, err := credentials(conn)
	if err != nil {
		return Caller{UID: overflow(), Refused: errdefs.ErrPermissionDenied.WithMessage(err.Error())}
	}
	c := Caller{UID: cred.Uid, PID: cred.Pid}
	if c.UID == overflow() {
		c.Refused = errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("uid %d is nobody's own: call as a user of this machine", c.UID))
	}
	return c
}

func credentials(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("read the peer's credentials: %w", err)
	}
	var cred *unix.Ucred
	ctl := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(ctl, err); err != nil {
		return nil, fmt.Errorf("read the peer's credentials: %w", err)
	}
	return cred, nil
}

// overflow is the uid that stands for those that cannot be told.
var overflow = sync.OnceValue(func() uint32 {
	const usual = 65534
	text, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	if err != nil {
		return usual
	}
	uid, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return usual
	}
	return uint32(uid)
})
