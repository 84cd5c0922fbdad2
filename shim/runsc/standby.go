package runsc

import (
	"context"
	"fmt"
	"os"
	"slices"
)

// Standby is a runsc that was loaded to create and start one container which joins a
// sandbox, before there is anything of the container but its name: loading it takes as long
// as all that it does. Its flags are given when it is loaded, so it may turn out to be of no
// use; it ends with Release, with its start, and with this process.
type Standby struct {
	Starter
	flags []string
}

// StandBy loads one. It starts in the folder dir, for the bundle need not be there yet.
func (r *Runsc) StandBy(id, bundle, dir string) (*Standby, error) {
	if err := r.check("create"); err != nil {
		return nil, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("runsc create: %w", err)
	}
	defer theirs.Close()
	s := &Standby{Starter: Starter{runsc: r, id: id, bundle: bundle, socket: ours, gone: make(chan struct{})}, flags: r.args("")}
	cmd := r.command(context.Background(), bundle, "create", id, CreateOptions{Bundle: bundle}.args()...)
	cmd.Dir = dir
	cmd.Env = environment(fmt.Sprintf("BRIG_STANDBY_FD=%d", startFD), fmt.Sprintf("BRIG_START_FD=%d", startFD))
	cmd.ExtraFiles = []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("runsc create: %w", err)
	}
	s.process = cmd.Process
	go s.wait(cmd)
	return s, nil
}

// Fits tells that it would be executed as for r.
func (s *Standby) Fits(r *Runsc) bool { return slices.Equal(s.flags, r.args("")) }

// Create announces the container to the sentry. false: this runsc is of no use, and has
// done nothing; it has ended, or is another build than brig's.
func (s *Standby) Create(ctx context.Context, stdio [3]*os.File) (done bool, err error) {
	stop := s.killAfter(ctx)
	defer stop()
	if n, _ := s.socket.Read(make([]byte, 1)); n != 1 {
		s.Release()
		return false, nil
	}
	s.stdio = &stdio
	if err := s.tell(stdio); err != nil {
		s.Release()
		return false, nil
	}
	if n, _ := s.socket.Read(make([]byte, 1)); n == 1 {
		return true, nil
	}
	s.Release()
	if s.failure == nil {
		return true, fmt.Errorf("runsc create %s: it has ended too early", s.id)
	}
	if ctx.Err() != nil {
		s.failure.Err = fmt.Errorf("%w: %w", context.Cause(ctx), s.failure.Err)
	}
	return true, s.failure
}

// Start starts the program, unless ctx ends before. runsc has gone ahead as far as it may
// without this word; where it has failed in that, there is no second try.
func (s *Standby) Start(ctx context.Context) error {
	select {
	case <-s.gone:
		if s.failure != nil {
			s.socket.Close()
			s.failure.Op = "start"
			return s.failure
		}
	default:
	}
	return s.Starter.Start(ctx)
}

// tell sends the word and the streams.
func (s *Standby) tell(stdio [3]*os.File) error {
	_, err := sendStdio(s.socket, []byte{0}, stdio)
	return err
}
