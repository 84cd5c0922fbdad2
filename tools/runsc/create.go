package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/google/subcommands"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/runsc/cmd"
	"gvisor.dev/gvisor/runsc/cmd/util"
	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/container"
	"gvisor.dev/gvisor/runsc/flag"
)

// stayEnv names the descriptor of a socket on which a create whose process is to start
// the container too says that it has created it, by one byte, and waits to be told
// that it may, by another. So runsc is loaded once for both.
//
// It is an environment variable for gVisor's own runsc, which does not know it, to be
// none the worse: it ends, and is executed again for the start.
const stayEnv = "BRIG_START_FD"

// create is gVisor's command, which stays if it is told to.
type create struct{ cmd.Create }

// Execute creates the container, and may wait to start it.
func (c *create) Execute(ctx context.Context, f *flag.FlagSet, args ...any) subcommands.ExitStatus {
	socket, err := strconv.Atoi(os.Getenv(stayEnv))
	stay := err == nil && os.Unsetenv(stayEnv) == nil
	if stay {
		unix.CloseOnExec(socket)
	}
	if status := c.Create.Execute(ctx, f, args...); status != subcommands.ExitSuccess || !stay {
		return status
	}
	created, err := container.Load(args[0].(*config.Config).RootDir, container.FullID{ContainerID: f.Arg(0)}, container.LoadOpts{SkipCheck: true})
	if err != nil {
		return util.Errorf("%v", err)
	}
	word, err := listen(socket, created.SandboxPid())
	if err != nil {
		return util.Errorf("%v", err)
	}
	if goesAhead(created) {
		return startAhead(created, word, args[0].(*config.Config))
	}
	told, err := word.await()
	switch {
	case err != nil:
		return util.Errorf("%v", err)
	case told:
		return start(ctx, socket, f, args...)
	}
	return subcommands.ExitSuccess
}

// start says by a byte that the program runs: the end of this process takes a while more.
func start(ctx context.Context, socket int, f *flag.FlagSet, args ...any) subcommands.ExitStatus {
	status := new(cmd.Start).Execute(ctx, f, args...)
	if status == subcommands.ExitSuccess {
		started(socket)
	}
	return status
}

func started(socket int) {
	_, _ = unix.Write(socket, []byte{0}) // who does not hear it waits for the end
}

// word is the one to start, which comes on a socket.
type word struct{ socket, sandbox int }

// listen tells that the container is created.
func listen(socket, sandboxPID int) (word, error) {
	sandbox, err := unix.PidfdOpen(sandboxPID, 0)
	if err != nil {
		return word{}, fmt.Errorf("watch the sandbox: %w", err)
	}
	if _, err := unix.Write(socket, []byte{0}); err != nil {
		return word{}, fmt.Errorf("tell that the container is created: %w", err)
	}
	return word{socket, sandbox}, nil
}

// await waits for the word. There will be none when the other end of the socket is closed.
// The end of the sandbox, whose parent this process may be, must be this one's too: it hands
// the sandbox over to who waits for its status.
func (w word) await() (told bool, err error) {
	fds := []unix.PollFd{{Fd: int32(w.socket), Events: unix.POLLIN}, {Fd: int32(w.sandbox), Events: unix.POLLIN}}
	for {
		switch _, err := unix.Poll(fds, -1); {
		case err == unix.EINTR:
		case err != nil:
			return false, fmt.Errorf("wait for the start: %w", err)
		case fds[1].Revents != 0:
			return false, errors.New("the sandbox has ended before its start")
		default:
			n, err := unix.Read(w.socket, make([]byte, 1))
			return n == 1, err
		}
	}
}
