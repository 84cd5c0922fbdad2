package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"brig/nodeagent/brig/client"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
)

// patience is how long a command that follows a sandbox puts up with a brigd
// that is away, as it is while it is restarted.
const patience = 30 * time.Second

// output copies a sandbox's output and remembers how far it has come, so that
// a restart of brigd neither loses nor repeats a byte.
type output struct {
	next [3]uint64 // by brigv1.Channel
	// take gets every piece in order; dropped counts the bytes before it that
	// the journal no longer had.
	take func(channel brigv1.Channel, offset, dropped uint64, data []byte) error
	// away is what is known of brigd before.
	away known
}

// copy reads to the end of what there is or, with follow, of the sandbox.
func (o *output) copy(ctx context.Context, c *client.Client, sandbox string, follow bool) error {
	return persist(ctx, o.away, func() error { return o.once(ctx, c, sandbox, follow) })
}

func (o *output) once(ctx context.Context, c *client.Client, sandbox string, follow bool) error {
	stream, err := c.Sandboxes.ReadOutput(ctx, connect.NewRequest(&brigv1.ReadOutputRequest{
		Sandbox:      sandbox,
		StdoutOffset: o.next[brigv1.Channel_CHANNEL_STDOUT],
		StderrOffset: o.next[brigv1.Channel_CHANNEL_STDERR],
		Follow:       follow,
	}))
	if err != nil {
		return err
	}
	defer stream.Close()
	for stream.Receive() {
		m := stream.Msg()
		channel := m.GetChannel()
		if channel != brigv1.Channel_CHANNEL_STDOUT && channel != brigv1.Channel_CHANNEL_STDERR {
			return fmt.Errorf("brigd sent output of an unknown channel %v; are brig and brigd of one version?", channel)
		}
		var dropped uint64
		if m.GetOffset() > o.next[channel] {
			dropped = m.GetOffset() - o.next[channel]
		}
		if err := o.take(channel, m.GetOffset(), dropped, m.GetData()); err != nil {
			return err
		}
		o.next[channel] = m.GetOffset() + uint64(len(m.GetData()))
	}
	return stream.Err()
}

// toStreams is a take that writes to stdout and stderr.
func (a *app) toStreams(channel brigv1.Channel, _, dropped uint64, data []byte) error {
	w, name := a.Out, "stdout"
	if channel == brigv1.Channel_CHANNEL_STDERR {
		w, name = a.Err, "stderr"
	}
	if dropped > 0 {
		fmt.Fprintf(a.Err, "brig: %d bytes of %s are gone: the node keeps a bounded amount\n", dropped, name)
	}
	_, err := w.Write(data)
	return err
}

// wait returns how the sandbox ended, however long that takes.
func wait(ctx context.Context, c *client.Client, sandbox string, before known) (*brigv1.Exit, error) {
	var exit *brigv1.Exit
	err := persist(ctx, before, func() error {
		res, err := c.Sandboxes.Wait(ctx, connect.NewRequest(&brigv1.WaitRequest{Sandbox: sandbox}))
		if err == nil {
			exit = res.Msg.GetExit()
		}
		return err
	})
	return exit, err
}

// known is what is known of brigd before a call.
type known bool

// reached: brigd has answered this process before, so that its silence is a restart's.
const reached known = true

// persist repeats a call that may be repeated while brigd is away, but for no longer
// than patience at a time. A brigd that was never there is an error at once.
func persist(ctx context.Context, before known, call func() error) error {
	var since time.Time
	if before == reached {
		since = time.Now()
	}
	for {
		err := call()
		if err == nil || !away(err) || ctx.Err() != nil {
			return err
		}
		var dial *client.DialError
		switch unreached := errors.As(err, &dial); {
		case unreached && since.IsZero():
			return err
		case !unreached:
			since = time.Now() // it answered until now
		case time.Since(since) > patience:
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// away tells whether brigd cannot be reached, or says that it is about to end.
func away(err error) bool { return client.Lost(err) || connect.CodeOf(err) == connect.CodeUnavailable }
