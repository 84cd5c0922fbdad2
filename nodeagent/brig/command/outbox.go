package command

import (
	"context"
	"io"
	"sync"

	brigv1 "brig/nodeagent/api/brig/v1"
)

const (
	// outboxBytes is how much stdin may be under way: what is not acknowledged is kept, to
	// be sent again, and brigd takes so much without making signals wait behind it.
	outboxBytes = 1 << 20
	// outboxPiece is the most that is sent at once.
	outboxPiece = 64 << 10
)

// outbox is stdin that brigd has not acknowledged yet.
type outbox struct {
	mu   sync.Mutex // guards what follows
	base uint64     // offset of data[0]
	data []byte
	eof  bool // nothing comes after data
	// changed is closed when any of that changes.
	changed chan struct{}
}

func newOutbox() *outbox { return &outbox{changed: make(chan struct{})} }

// change is called under mu.
func (o *outbox) change() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// fill takes in until it ends or ctx does. It may outlive ctx: a read of a terminal cannot
// be interrupted, and the process ends soon after.
func (o *outbox) fill(ctx context.Context, in io.Reader) {
	buf := make([]byte, outboxPiece)
	for {
		n, err := in.Read(buf)
		o.mu.Lock()
		o.data = append(o.data, buf[:n]...)
		o.eof = err != nil
		full := len(o.data) >= outboxBytes
		o.change()
		o.mu.Unlock()
		if err != nil || full && !o.await(ctx, func() bool { return len(o.data) < outboxBytes }) {
			return
		}
	}
}

// await returns true once the condition, which is asked under mu, holds.
func (o *outbox) await(ctx context.Context, holds func() bool) bool {
	for {
		o.mu.Lock()
		met, changed := holds(), o.changed
		o.mu.Unlock()
		if met {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// acknowledge that everything before an offset is kept. At the beginning it may be what
// others have sent to the program before.
func (o *outbox) acknowledge(upTo uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if upTo > o.base {
		o.data = o.data[min(upTo-o.base, uint64(len(o.data))):]
		o.base = upTo
		o.change()
	}
}

// send everything from an offset on, until its end was sent or ctx ends.
func (o *outbox) send(ctx context.Context, from uint64, send func(*brigv1.ExecStreamRequest) error) error {
	for {
		var piece *brigv1.ExecInput
		ready := o.await(ctx, func() bool {
			piece = o.piece(from)
			return piece != nil
		})
		if !ready {
			return context.Cause(ctx)
		}
		if err := send(&brigv1.ExecStreamRequest{Message: &brigv1.ExecStreamRequest_Stdin{Stdin: piece}}); err != nil || piece.Eof {
			return err
		}
		from += uint64(len(piece.Data))
	}
}

// piece at an offset, nil if there is none yet. It is called under mu.
func (o *outbox) piece(from uint64) *brigv1.ExecInput {
	from = max(from, o.base) // acknowledged meanwhile
	rest := o.data[from-o.base:]
	last := o.eof && len(rest) <= outboxPiece
	if len(rest) == 0 && !last {
		return nil
	}
	// Copied: what is acknowledged makes room for what comes.
	return &brigv1.ExecInput{Offset: from, Data: append([]byte(nil), rest[:min(len(rest), outboxPiece)]...), Eof: last}
}
