// Command demo shows brig on this machine: it starts a throwaway node, runs the
// README's example on it with everything visible, checks each result, and
// removes all of it. It needs root and what make build deps leaves in bin/, and
// ends with "demo: N passed, 0 failed".
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"brig/tests/node"
	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("needs root: sudo make demo")
	}
	n, err := node.New(node.Options{})
	if err != nil {
		return err
	}
	s := &show{node: n}
	fmt.Printf("$ brigd --standalone %s\n", n.Dir)
	if err := n.Start(); err != nil {
		return errors.Join(err, n.Stop(), node.RemoveCtrFolders())
	}
	defer func() {
		s.title("everything is removed")
		s.check("the node leaves nothing", errors.Join(n.Stop(), node.RemoveCtrFolders()))
		fmt.Printf("\ndemo: %d passed, %d failed\n", s.passed, s.failed)
		if err == nil && s.failed > 0 {
			err = fmt.Errorf("%d checks failed", s.failed)
		}
	}()
	story(ctx, s)
	return ctx.Err()
}
