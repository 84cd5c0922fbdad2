package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"brig/internal/netns"
)

// side is one of the two paths that are compared: through the rules of a node with
// o.full attachments and a list of o.ranges, or the same without a rule. Sockets are
// the kernel's own: what gVisor adds is not the network's.
type side struct {
	name  string
	ours  bool
	world func(context.Context) (*world, error)
}

func ruled(o options) string { return fmt.Sprintf("%d sandboxes, a list of %d", o.full, o.ranges) }

func (n *networks) sides() []side {
	return []side{
		{unruled, false, n.bare},
		{ruled(n.o), true, n.full},
	}
}

// placements of the two ends: the packets of one processor are the path's own cost, on
// two they wake the other one up, too, as those of a machine elsewhere do.
var placements = []struct {
	name           string
	client, server int
}{{"round trip, a processor for each end", 1, 0}, {"round trip, one processor", 0, 0}}

// measureRoundTrip is a datagram from a sandbox to the internet and its echo. A sample is
// the mean of o.batch of them.
func measureRoundTrip(ctx context.Context, n *networks, o options, rng *rand.Rand, progress io.Writer) (_ []series, err error) {
	var all []series
	var echoes []*echo
	for _, side := range n.sides() {
		w, err := side.world(ctx)
		if err != nil {
			return nil, err
		}
		e, err := newEcho(netns.Path(w.id+"-path"), w.internet())
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, e.close()) }()
		for _, p := range placements {
			all = append(all, series{measure: p.name, variant: side.name, unit: "µs", ours: side.ours})
			echoes = append(echoes, e)
		}
	}
	err = interleave(ctx, rng, len(all), 1+often*o.rounds, "round trip", progress, func(i, round int) {
		var took time.Duration
		err := onCPU(placements[i%len(placements)].client, func() (err error) {
			took, err = echoes[i].roundTrips(o.batch)
			return err
		})
		all[i].take(round, took, time.Microsecond, err)
	})
	slices.SortStableFunc(all, func(a, b series) int { return slices.Compare([]byte(a.measure), []byte(b.measure)) })
	return all, err
}

// echo is a pair of UDP sockets, the second of which answers.
type echo struct {
	client, server socket
	ended          chan error
}

const echoPort = 7

func newEcho(client, server string) (*echo, error) {
	e := &echo{client: -1, server: -1, ended: make(chan error, 1)}
	var errClient, errServer error
	e.client, errClient = openSocket(client, unix.SOCK_DGRAM)
	e.server, errServer = openSocket(server, unix.SOCK_DGRAM)
	err := errors.Join(errClient, errServer)
	if err == nil {
		err = errors.Join(e.server.bind(echoPort), e.client.connect(echoPort))
	}
	if err != nil {
		return nil, errors.Join(err, e.client.close(), e.server.close())
	}
	go func() { e.ended <- onCPU(placements[0].server, e.serve) }()
	return e, nil
}

// serve ends with an empty datagram.
func (e *echo) serve() error {
	buffer := make([]byte, 64)
	for {
		n, from, err := unix.Recvfrom(int(e.server), buffer, 0)
		switch {
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
			continue
		case err != nil || n == 0:
			return err
		}
		if err := unix.Sendto(int(e.server), buffer[:n], 0, from); err != nil {
			return err
		}
	}
}

// roundTrips returns the mean of count of them.
func (e *echo) roundTrips(count int) (time.Duration, error) {
	buffer := make([]byte, 64)
	begin := time.Now()
	for range count {
		if _, err := e.client.write(buffer); err != nil {
			return 0, fmt.Errorf("send: %w", err)
		}
		if _, err := e.client.read(buffer); err != nil {
			return 0, fmt.Errorf("no echo: %w", err)
		}
	}
	return time.Since(begin) / time.Duration(count), nil
}

func (e *echo) close() error {
	_, err := e.client.write(nil)
	select {
	case ended := <-e.ended:
		err = errors.Join(err, ended)
	case <-time.After(2 * patience):
		err = errors.Join(err, errors.New("the echo does not end"))
	}
	return errors.Join(err, e.client.close(), e.server.close())
}
