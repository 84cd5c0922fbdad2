package server

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"

	"brig/nodeagent/socket"
)

// A message is in memory as a whole before it is understood, and its sender may take
// its time; so is an answer until its reader has taken it. So what all calls under way
// hold is bounded, and how long one message may take to come or to go.
const (
	maxBodies      = 128 << 20 // of all callers
	maxBodiesOfOne = 32 << 20  // of one uid
)

// bodyTime is how long one message may take to come, or to go; a test's is shorter.
var bodyTime = time.Minute

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

var errBudget = errdefs.ErrResourceExhausted.WithMessage("too much is being sent at once: let earlier calls end first")

type meteredKey struct{}

// bounded keeps the calls of next within the budget: all of one request, or the message
// of a stream that is under way; and the one answer, if it is one. patience bounds how
// long a request that is one message, and an answer that is, may take to pass.
//
// misunderstood is called after a call of the protocol that was no request.
func bounded(next http.Handler, patience time.Duration, misunderstood func(*http.Request)) http.Handler {
	b := &budget{one: map[uint32]int64{}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, _ := socket.Peer(r.Context())
		body := &metered{ReadCloser: r.Body, budget: b, uid: uid, once: !streamed(r)}
		defer body.end()
		control := http.NewResponseController(w)
		if body.once {
			body.deadline = control.SetReadDeadline
			_ = control.SetReadDeadline(time.Now().Add(patience))
		}
		if answersOnce[r.URL.Path] {
			answer := &hurried{ResponseWriter: w, control: control, patience: patience}
			defer answer.end()
			w = answer
		}
		r = r.WithContext(context.WithValue(r.Context(), meteredKey{}, body))
		r.Body = body
		next.ServeHTTP(w, r)
		if protocol[r.URL.Path] && !body.hasPassed() {
			misunderstood(r)
		}
	})
}

// streamed tells whether a request is a stream of messages. What is not of the protocol,
// gRPC's reflection, is.
func streamed(r *http.Request) bool { return uploads[r.URL.Path] || !protocol[r.URL.Path] }

// pass notes that a call's request was understood.
func pass(ctx context.Context) {
	if body, ok := ctx.Value(meteredKey{}).(*metered); ok {
		body.mu.Lock()
		defer body.mu.Unlock()
		body.passed = true
	}
}

func (m *metered) hasPassed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.passed
}

// charge counts an answer until its reader has it.
func charge(ctx context.Context, answer any) error {
	m, ok := answer.(proto.Message)
	body, metered := ctx.Value(meteredKey{}).(*metered)
	if !ok || !metered {
		return nil
	}
	body.mu.Lock()
	rest := int64(proto.Size(m)) - body.ahead
	body.mu.Unlock()
	return body.take(max(rest, 0))
}

// chargeAhead counts n bytes of an answer that is being gathered.
func chargeAhead(ctx context.Context, n int) error {
	body, ok := ctx.Value(meteredKey{}).(*metered)
	if !ok {
		return nil
	}
	if err := body.take(int64(n)); err != nil {
		return err
	}
	body.mu.Lock()
	defer body.mu.Unlock()
	body.ahead += int64(n)
	return nil
}

// metered is a body whose bytes count until release or, in a stream, until the next
// message begins.
type metered struct {
	io.ReadCloser
	budget   *budget
	uid      uint32
	once     bool
	deadline func(time.Time) error // of one message

	mu     sync.Mutex // guards what follows: a stream's answer and its body are not of one goroutine
	passed bool       // it was understood, and what became of it is on record
	over   bool       // the call has ended
	taken  int64
	ahead  int64   // of taken: the answer's that is not made yet
	header [5]byte // of the message: flags, length
	known  int     // bytes of header
	rest   uint32  // bytes of the message to come
}

// Read fails when the budget is spent.
func (m *metered) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && m.deadline != nil {
		_ = m.deadline(time.Time{})
		m.deadline = nil
	}
	if !m.once {
		m.frames(p[:n])
	}
	if err := m.take(int64(n)); err != nil {
		return 0, connect.NewError(connect.CodeResourceExhausted, err)
	}
	return n, err
}

// frames follows where the messages of a stream begin, and gives back those before. The
// frame is the same in gRPC, gRPC-Web and Connect.
func (m *metered) frames(p []byte) {
	for len(p) > 0 {
		if m.rest > 0 {
			n := min(uint32(len(p)), m.rest)
			m.rest, p = m.rest-n, p[n:]
			continue
		}
		if m.known == 0 {
			m.release()
		}
		n := copy(m.header[m.known:], p)
		m.known, p = m.known+n, p[n:]
		if m.known == len(m.header) {
			m.rest, m.known = binary.BigEndian.Uint32(m.header[1:]), 0
		}
	}
}

func (m *metered) take(n int64) error {
	if !m.budget.take(m.uid, n) {
		return errBudget
	}
	m.mu.Lock()
	over := m.over
	if !over {
		m.taken += n
	}
	m.mu.Unlock()
	if over { // nobody would give it back
		m.budget.give(m.uid, n)
		return errOver
	}
	return nil
}

// end is the call's. Who reads on gets an error.
func (m *metered) end() {
	m.mu.Lock()
	m.over = true
	m.mu.Unlock()
	m.release()
}

func (m *metered) release() {
	m.mu.Lock()
	taken := m.taken
	m.taken = 0
	m.mu.Unlock()
	m.budget.give(m.uid, taken)
}

// hurried is an answer that has a time to be read in.
type hurried struct {
	http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
	begun    bool
}

// Unwrap is for http.ResponseController.
func (h *hurried) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// WriteHeader begins the answer.
func (h *hurried) WriteHeader(status int) {
	h.begin()
	h.ResponseWriter.WriteHeader(status)
}

// Write goes on with it.
func (h *hurried) Write(p []byte) (int, error) {
	h.begin()
	return h.ResponseWriter.Write(p)
}

// end lets the connection serve others, whose answers may take any time.
func (h *hurried) end() {
	if h.begun {
		_ = h.control.SetWriteDeadline(time.Time{})
	}
}

func (h *hurried) begin() {
	if !h.begun {
		h.begun = true
		_ = h.control.SetWriteDeadline(time.Now().Add(h.patience))
	}
}
