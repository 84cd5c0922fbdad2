package crash

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"

	"brig/internal/sandbox"
	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/engine"
	testnode "brig/tests/node"
)

// lostStates are those in which a shim can be that containerd does not know.
var lostStates = map[string]func(t *testing.T, s *rawShim){
	"starts": func(t *testing.T, s *rawShim) {
		verb := s.verb()
		stdin, err := verb.StdinPipe() // it waits for its parameters
		if err != nil {
			t.Fatal(err)
		}
		if err := verb.Start(); err != nil {
			t.Fatal(err)
		}
		over := make(chan struct{})
		go func() { defer close(over); _ = verb.Wait() }()
		t.Cleanup(func() { stdin.Close(); <-over })
	},
	"serves":  func(t *testing.T, s *rawShim) { s.serve(t) },
	"created": func(t *testing.T, s *rawShim) { s.serve(t); s.create(t) },
	"runs":    func(t *testing.T, s *rawShim) { s.serve(t); s.create(t); s.run(t) },
	"stands still": func(t *testing.T, s *rawShim) {
		s.serve(t)
		s.create(t)
		s.run(t)
		if err := syscall.Kill(s.pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	},
	"has no bundle": func(t *testing.T, s *rawShim) {
		s.serve(t)
		if err := os.RemoveAll(s.bundle); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(s.pid, syscall.SIGSTOP); err != nil { // or it would see that
			t.Fatal(err)
		}
	},
}

func (s *rawShim) serve(t *testing.T) {
	t.Helper()
	path, err := s.start()
	if err != nil {
		t.Fatal(err)
	}
	s.dial(t, path)
}

// create makes a task on a root filesystem that is mounted into the bundle.
func (s *rawShim) create(t *testing.T) {
	t.Helper()
	s.furnish(t, "sleep", "1000")
	root, tree := filepath.Join(s.bundle, "rootfs"), filepath.Join(t.TempDir(), "tree")
	if err := errors.Join(os.Rename(root, tree), os.Mkdir(root, 0o711)); err != nil {
		t.Fatal(err)
	}
	_, err := s.Create(s.call(t), &taskapi.CreateTaskRequest{
		ID: s.id, Bundle: s.bundle, Rootfs: []*types.Mount{{Type: "bind", Source: tree, Options: []string{"rbind"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (s *rawShim) run(t *testing.T) {
	t.Helper()
	if _, err := s.Start(s.call(t), &taskapi.StartRequest{ID: s.id}); err != nil {
		t.Fatal(err)
	}
}

// bare is what a node's shims need to know of it.
func (a *agent) bare(t *testing.T) (*node, string) {
	t.Helper()
	cfg, err := a.Config()
	if err != nil {
		t.Fatal(err)
	}
	return &node{dir: a.Dir, bin: a.Bin, name: cfg.Node}, cfg.Containerd.Namespace
}

func (a *agent) engine(t *testing.T) *engine.Engine {
	t.Helper()
	cfg, err := a.Config()
	if err != nil {
		t.Fatal(err)
	}
	cfg.RunDir = t.TempDir() // brigd's is brigd's
	e, err := engine.Connect(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// isCleared wants nothing to be left of a shim and of what it held.
func (s *rawShim) isCleared(t *testing.T) {
	t.Helper()
	wantNothingLeft(t, s.n, s.id)
	if _, err := os.Stat(s.bundle); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the bundle is there, or: %v", err)
	}
}

// TestBrigdEndsLostShims: containerd knows nothing of a shim, whatever that one holds. The
// removal of its sandbox ends it and clears all of it away, and touches nothing else.
func TestBrigdEndsLostShims(t *testing.T) {
	t.Parallel()
	a := launchAgent(t, testnode.Options{Failpoints: true})
	bystander := a.bystander(t)
	n, namespace := a.bare(t)
	t.Run("removed", func(t *testing.T) {
		e := a.engine(t)
		var removals sync.WaitGroup
		defer removals.Wait()
		for state, reach := range lostStates {
			s := n.unstarted(t, namespace, string(sandbox.NewID()))
			reach(t, s)
			removals.Go(func() {
				if err := e.Remove(ask(t), s.id); err != nil {
					t.Errorf("%s: %v", state, err)
				}
				s.isCleared(t)
			})
		}
	})
	t.Run("created again", func(t *testing.T) { a.cutOff(t, n, namespace) })
	a.unharmed(t, bystander)
	a.converges(t, patience)
}

// cutOff has brigd die in a create, of which a shim stays that containerd does not know.
// brigd undoes it, and the repetition of the create succeeds.
func (a *agent) cutOff(t *testing.T, n *node, namespace string) {
	e := a.engine(t)
	before, err := e.Names(ask(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Arm("create.container"); err != nil {
		t.Fatal(err)
	}
	create := func(ctx context.Context) error {
		made, err := a.make(ctx, &brigv1.CreateRequest{RequestId: "cut-off"})
		if err != nil {
			return err
		}
		return errors.Join(a.runs(ctx, made.GetId()), a.remove(ctx, made.GetId()))
	}
	go func() { _ = create(ask(t)) }()
	if err := a.Died(patience); err != nil {
		t.Fatal(err)
	}
	after, err := e.Names(ask(t))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for id := range after {
		if !before[id] && strings.HasPrefix(id, "sb-") {
			ids = append(ids, id)
		}
	}
	if len(ids) != 1 {
		t.Fatalf("the create has made %v, want one sandbox", slices.Sorted(slices.Values(ids)))
	}
	s := n.unstarted(t, namespace, ids[0])
	s.serve(t)
	if err := syscall.Kill(s.pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	a.converges(t, patience)
	s.isCleared(t)
	eventually(t, patience, func() error {
		if err := create(ask(t)); err != nil {
			return fmt.Errorf("the create, repeated: %w", err)
		}
		return nil
	})
}
