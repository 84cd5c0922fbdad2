package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"brig/internal/netns"
)

// directions of a transfer.
var directions = []struct {
	name string
	into bool
}{{"TCP out of a sandbox", false}, {"TCP into a sandbox", true}}

// measureThroughput is what one TCP connection carries each way between a sandbox and
// the internet, on the same two paths as the round trip, with a processor for each end.
// More is better.
func measureThroughput(ctx context.Context, n *networks, o options, rng *rand.Rand, progress io.Writer) ([]series, error) {
	var all []series
	var streams []stream
	for _, side := range n.sides() {
		w, err := side.world(ctx)
		if err != nil {
			return nil, err
		}
		for _, d := range directions {
			all = append(all, series{measure: d.name, variant: side.name, unit: "Gbit/s", ours: side.ours})
			streams = append(streams, stream{client: netns.Path(w.id + "-path"), server: w.internet()})
		}
	}
	err := interleave(ctx, rng, len(all), 1+often*o.rounds, "TCP", progress, func(i, round int) {
		took, err := streams[i].transfer(directions[i%len(directions)].into, o.bytes)
		switch {
		case round == 0:
		case err != nil:
			all[i].failures = append(all[i].failures, err)
		default:
			all[i].samples = append(all[i].samples, float64(o.bytes)*8/float64(took.Nanoseconds()))
		}
	})
	slices.SortStableFunc(all, func(a, b series) int { return strings.Compare(a.measure, b.measure) })
	return all, err
}

// stream is where the two ends of a connection are: paths of namespaces.
type stream struct{ client, server string }

const streamPort = 9

// open connects the two ends. Each pair has a listener of its own, so that what is left
// of one that failed is not taken for the next.
func (s stream) open() (client, server socket, err error) {
	client, server = -1, -1
	listener, err := openSocket(s.server, unix.SOCK_STREAM)
	defer func() { err = errors.Join(err, listener.close()) }()
	if err != nil {
		return client, server, err
	}
	if err := errors.Join(listener.bind(streamPort), unix.Listen(int(listener), 1)); err != nil {
		return client, server, fmt.Errorf("listen: %w", err)
	}
	if client, err = openSocket(s.client, unix.SOCK_STREAM); err != nil {
		return client, server, err
	}
	if err := client.connect(streamPort); err != nil {
		return client, server, fmt.Errorf("connect: %w", err)
	}
	fd, _, err := unix.Accept4(int(listener), unix.SOCK_CLOEXEC)
	if err != nil {
		return client, server, fmt.Errorf("accept: %w", err)
	}
	return client, socket(fd), socket(fd).hurry()
}

// transfer connects, and returns how long it took from the first byte sent to the last
// one received.
func (s stream) transfer(into bool, bytes int) (_ time.Duration, err error) {
	client, server, err := s.open()
	defer func() { err = errors.Join(err, client.close(), server.close()) }()
	if err != nil {
		return 0, err
	}
	from, to := client, server
	if into {
		from, to = server, client
	}
	sent := make(chan error, 1)
	begin := time.Now()
	go func() { sent <- onCPU(0, func() error { return move(from.write, bytes) }) }()
	err = onCPU(1, func() error { return move(to.read, bytes) })
	took := time.Since(begin)
	if err != nil {
		err = errors.Join(fmt.Errorf("receive: %w", err), unix.Shutdown(int(to), unix.SHUT_RDWR)) // the sender ends, too
	}
	return took, errors.Join(err, <-sent)
}

// chunk of a read or write, in bytes.
const chunk = 256 << 10

// move makes calls until this many bytes went through.
func move(call func([]byte) (int, error), bytes int) error {
	buffer := make([]byte, chunk)
	for bytes > 0 {
		n, err := call(buffer[:min(chunk, bytes)])
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("with %d bytes to go: %w", bytes, err)
		}
		bytes -= n
	}
	return nil
}
