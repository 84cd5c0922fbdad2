package files

import (
	"errors"
	"io"
	"sync"
	"time"

	"brig/nodeagent/files/wire"
)

// errUnsent: brig-files did not take everything; its answer says why.
var errUnsent = errors.New("not everything was sent")

// send passes on what next returns, and then the end. It gives up once brig-files has
// answered.
func (c *call) send(next func() ([]byte, error), answered <-chan struct{}) (sent uint64, err error) {
	s := sender{call: c}
	done := make(chan struct{})
	defer close(done)
	go s.keepAlive(done)
	for {
		data, err := next()
		end := errors.Is(err, io.EOF)
		if err != nil && !end {
			return sent, err
		}
		select {
		case <-answered:
			return sent, errUnsent
		default:
		}
		if end {
			return sent, s.end()
		}
		if err := s.data(data); err != nil {
			return sent, err
		}
		sent += uint64(len(data))
	}
}

// sender lets data and signs of life share a stdin.
type sender struct {
	call *call
	mu   sync.Mutex // one frame at a time
}

func (s *sender) data(p []byte) error {
	return s.within(func() error { _, err := s.call.out.Write(p); return err })
}

func (s *sender) end() error {
	return s.within(func() error { return s.call.out.Value(wire.KindEnd, wire.End{}) })
}

// within writes, unless the sandbox does not take it in time.
func (s *sender) within(write func() error) error {
	defer s.call.within(stall)()
	s.mu.Lock()
	defer s.mu.Unlock()
	if write() != nil {
		return errUnsent
	}
	return nil
}

func (s *sender) keepAlive(done <-chan struct{}) {
	beat := time.NewTicker(wire.KeepAlive)
	defer beat.Stop()
	for {
		select {
		case <-done:
			return
		case <-beat.C:
			s.mu.Lock()
			_ = s.call.out.Frame(wire.KindData, nil) // whoever sends data notices
			s.mu.Unlock()
		}
	}
}
