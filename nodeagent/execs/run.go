package execs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"brig/nodeagent/output"
	"brig/nodeagent/record"
)

// Result of a program that was run to its end.
type Result struct {
	Stdout, Stderr []byte
	// Truncated: more was written than is here.
	Truncated bool
	Exit      record.Exit
}

// Room is what a Run keeps in memory.
type Room struct {
	// Max bytes of each output.
	Max int
	// Take is asked before more is kept; its error ends the Run. nil: nobody counts.
	Take func(n int) error
}

// Run runs a program to its end, with the stdin given, and returns of each output the
// first bytes, as far as there is room. An ID that was used before gives that program's
// end.
func (m *Manager) Run(ctx context.Context, sb Sandbox, s Spec, stdin []byte, room Room) (Result, error) {
	if s.Stdin = len(stdin) > 0; s.Stdin {
		s.Input = Digest(stdin)
	}
	s.Block, s.Late = true, true // the first bytes are wanted, and after awaitBrief at the soonest
	x, err := m.Start(ctx, sb, s)
	if err != nil {
		return Result{}, err
	}
	x.awaitBrief()
	stdout, stderr := keeper{room: room}, keeper{room: room}
	exit, err := x.Copy(ctx, bytes.NewReader(stdin), &stdout, &stderr)
	if !IsEnding(ctx, err) {
		x.Leave()
	}
	return Result{stdout.data, stderr.data, stdout.more || stderr.more, exit}, err
}

// brief is how long a program may run before its output is looked at. Most that are run
// for their output alone have ended by then, and it is all there.
const brief = 20 * time.Millisecond

func (x *Exec) awaitBrief() {
	timer := time.NewTimer(brief)
	defer timer.Stop()
	select {
	case <-x.ended:
	case <-timer.C:
	}
}

// Copy passes stdin on, if the exec has one, hands on all output as it comes, and returns
// how the program ended.
func (x *Exec) Copy(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) (record.Exit, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if x.note.Stdin {
		go func() {
			if err := x.feed(ctx, stdin); err != nil && !isClosed(x.ended) {
				cancel(err)
			}
		}()
	}
	to := map[string]io.Writer{stdoutFile: stdout, stderrFile: stderr}
	err := x.Read(ctx, Offsets{}, true, func(p output.Piece) error {
		if gap, ok := to[p.Stream].(*keeper); ok {
			gap.at(p.Offset)
		}
		_, err := to[p.Stream].Write(p.Data)
		return err
	})
	if err != nil {
		return record.Exit{}, err
	}
	return x.Wait(ctx)
}

// feed stdin until it ends.
func (x *Exec) feed(ctx context.Context, stdin io.Reader) error {
	buf := make([]byte, 256<<10)
	for offset := int64(0); ; {
		n, err := io.ReadFull(stdin, buf)
		eof := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !eof {
			return err
		}
		if offset, err = x.Write(ctx, offset, buf[:n], eof); err != nil || eof {
			return err
		}
	}
}

// keeper keeps the first bytes of a stream.
type keeper struct {
	room Room
	seen int64
	data []byte
	more bool
}

// at notes the offset of what comes next: what was dropped before it is missing.
func (k *keeper) at(offset int64) { k.more = k.more || offset > k.seen }

// Write fails if somebody counts who has no room left.
func (k *keeper) Write(p []byte) (int, error) {
	n := min(k.room.Max-len(k.data), len(p))
	if n > 0 && k.room.Take != nil {
		if err := k.room.Take(n); err != nil {
			return 0, err
		}
	}
	k.seen += int64(len(p))
	k.data = append(k.data, p[:n]...)
	k.more = k.more || len(p) > n
	return len(p), nil
}
