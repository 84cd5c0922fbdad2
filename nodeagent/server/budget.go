package server

import (
	"io"
	"net/http"
	"sync"

	"connectrpc.com/connect"
	"github.com/containerd/errdefs"

	"brig/nodeagent/api/brig/v1/brigv1connect"
	"brig/nodeagent/socket"
)

// A message is in memory as a whole before it is understood, and its sender may take
// any time, so what all calls under way have sent is bounded too.
const (
	maxBodies      = 128 << 20 // of all callers
	maxBodiesOfOne = 32 << 20  // of one uid
)

// budget counts the bytes of the messages of calls under way.
type budget struct {
	mu  sync.Mutex // guards what follows
	all int64
	one map[uint32]int64
}

func (b *budget) take(uid uint32, n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all+n > maxBodies || b.one[uid]+n > maxBodiesOfOne {
		return false
	}
	b.all += n
	b.one[uid] += n
	return true
}

func (b *budget) give(uid uint32, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all -= n
	if b.one[uid] -= n; b.one[uid] == 0 {
		delete(b.one, uid)
	}
}

// bounded keeps the calls of next within the budget, but for those that take a stream
// of messages and hold one of them at a time.
func bounded(next http.Handler) http.Handler {
	b := &budget{one: map[uint32]int64{}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case brigv1connect.ExecStreamProcedure, brigv1connect.FilesWriteProcedure, brigv1connect.ImagesImportProcedure:
			next.ServeHTTP(w, r)
			return
		}
		uid, _ := socket.Peer(r.Context()) // of nobody known no call is answered
		body := &metered{ReadCloser: r.Body, budget: b, uid: uid}
		defer body.release()
		r.Body = body
		next.ServeHTTP(w, r)
	})
}

// metered is a body whose bytes count until release.
type metered struct {
	io.ReadCloser
	budget *budget
	uid    uint32
	taken  int64
}

// Read fails when the budget is spent.
func (m *metered) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if !m.budget.take(m.uid, int64(n)) {
		return 0, connect.NewError(connect.CodeResourceExhausted, errdefs.ErrResourceExhausted.WithMessage("too much is being sent at once: let earlier calls end first"))
	}
	m.taken += int64(n)
	return n, err
}

func (m *metered) release() { m.budget.give(m.uid, m.taken) }
