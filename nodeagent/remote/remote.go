// Package remote lets callers in over TCP, by their certificates.
//
// TLS 1.3 alone, both sides with a certificate. A caller is the common name of its
// certificate, and is served as the uid that the operator gave that name; never as root.
// One whose name nobody gave a uid is told so and served nothing. A connection ends when
// the first certificate of its chain does, and when what it was judged by has changed and
// it would not be let in any more.
//
// The handshake comes before everything else and beside the others: at most handshakes of
// them are under way, and one address has only a part of those (admission), so who
// connects and says nothing costs a descriptor for a few seconds.
package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"brig/internal/config"
	"brig/nodeagent/clock"
	"brig/nodeagent/socket"
)

const (
	// handshakes at once, from everywhere.
	handshakes       = 256
	handshakeTimeout = 10 * time.Second
	// reloadEvery is how often the files are looked at beside every handshake.
	reloadEvery = 5 * time.Second
	// acceptWait is the pause after a failed accept: out of descriptors, say.
	acceptWait = 100 * time.Millisecond
)

// Listener accepts connections whose callers are known.
type Listener struct {
	tcp   net.Listener
	cfg   config.Remote
	files *files
	door  *socket.Door
	log   *slog.Logger

	begun *sources
	ready chan *tls.Conn
	ctx   context.Context // ends with Close
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu   sync.Mutex // guards what follows
	open map[*entered]bool
}

// Listen listens at cfg.Listen. Files that cannot be read stop the start.
func Listen(cfg config.Remote, door *socket.Door, log *slog.Logger) (*Listener, error) {
	files, err := load(cfg)
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	tcp, err := lc.Listen(context.Background(), "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for remote callers: %w", err)
	}
	l := &Listener{
		tcp: tcp, cfg: cfg, files: files, door: door, log: log,
		begun: newSources(handshakes), ready: make(chan *tls.Conn), open: map[*entered]bool{},
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.wg.Go(l.accept)
	l.wg.Go(l.keep)
	return l, nil
}

// Accept returns the next connection whose handshake is done: a *tls.Conn.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.ready:
		return conn, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Addr is where it listens.
func (l *Listener) Addr() net.Addr { return l.tcp.Addr() }

// Close ends listening and the handshakes under way; who has entered goes on.
func (l *Listener) Close() error {
	l.stop()
	err := l.tcp.Close()
	l.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (l *Listener) accept() {
	for {
		conn, err := l.tcp.Accept()
		if l.ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return
		}
		if err != nil {
			l.log.Warn("accept a remote caller", "err", err)
			clock.Pause(l.ctx, acceptWait)
			continue
		}
		leave, ok := l.begun.enter(conn.RemoteAddr())
		if !ok {
			_ = conn.Close()
			continue
		}
		l.wg.Go(func() {
			defer leave()
			l.shake(conn)
		})
	}
}

// shake makes a caller known, or closes conn.
func (l *Listener) shake(conn net.Conn) {
	raw := &socket.Conn{Conn: conn}
	e := &entered{Conn: raw, gone: l.gone}
	secure := tls.Server(e, l.files.server(l.log))
	ctx, cancel := context.WithTimeout(l.ctx, handshakeTimeout)
	err := secure.HandshakeContext(ctx)
	cancel()
	if err != nil {
		l.files.refused(l.log, conn.RemoteAddr(), err)
		_ = conn.Close()
		return
	}
	e.state = secure.ConnectionState()
	if !raw.Enter(l.door, l.caller(e.state)) {
		_ = conn.Close()
		return
	}
	l.keepOpen(e)
	select {
	case l.ready <- secure:
	case <-l.ctx.Done():
		_ = e.Close()
	}
}

// caller is who the verified certificate says, and what the operator made of the name.
func (l *Listener) caller(state tls.ConnectionState) socket.Caller {
	name := state.PeerCertificates[0].Subject.CommonName
	uid, ok := l.cfg.Principals[name]
	if !ok || uid == 0 || name == "" {
		return socket.Caller{UID: nobody, Principal: printable(name), Refused: errdefs.ErrPermissionDenied.WithMessage(
			fmt.Sprintf("the certificate's name %.64q is none of remote.principals: ask the node's operator to add it", name))}
	}
	return socket.Caller{UID: uid, Principal: printable(name)}
}

// nobody is the uid of refused callers.
const nobody = 65534

// printable is a name that a log line can hold; never empty, which would mean a local
// caller.
func printable(name string) string {
	if quoted := fmt.Sprintf("%.64q", name); quoted != `"`+name+`"` || name == "" {
		return quoted
	}
	return name
}
