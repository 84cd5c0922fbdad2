package socket

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

type peerKey struct{}

// WithPeer is a http.Server's ConnContext: it keeps the uid at the other end, as it
// was when the connection was made.
func WithPeer(ctx context.Context, conn net.Conn) context.Context {
	uid, err := peer(conn)
	if err != nil {
		return ctx // and Peer will say that nobody is known
	}
	return context.WithValue(ctx, peerKey{}, uid)
}

// Peer is the uid that WithPeer kept.
func Peer(ctx context.Context) (uint32, error) {
	uid, ok := ctx.Value(peerKey{}).(uint32)
	if !ok {
		return 0, errors.New("the peer of the connection is not known")
	}
	return uid, nil
}

func peer(conn net.Conn) (uint32, error) {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("%T is no unix connection", conn)
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	ctl := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(ctl, err); err != nil {
		return 0, fmt.Errorf("read the peer's credentials: %w", err)
	}
	return cred.Uid, nil
}
