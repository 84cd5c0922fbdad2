package runsc

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"brig/internal/config"

	"golang.org/x/sys/unix"
)

// Early is a runsc that was loaded before its command was known, while its caller finds
// out: loading it takes some milliseconds of a processor that has nothing else to do then.
// It serves one Boot, or none. It ends with this process, and with Release.
type Early struct {
	cmd    *exec.Cmd
	socket *os.File // runsc's other end is descriptor startFD
}

// Path is the runsc of a configuration. What is configured is often a link to a version:
// what it leads to now is the sandbox's for life, since a sentry and the runsc that talks
// to it must be of one build.
func Path(cfg *config.Config) string {
	path, err := filepath.EvalSymlinks(cfg.Runsc.Path)
	if err != nil {
		return cfg.Runsc.Path // and the first command says what is wrong with it
	}
	return path
}

// Load loads the runsc at path. It has the bundles that it may be for in its arguments, which
// it does not read, so that KillStrays finds it. A script is refused: it is somebody's who
// wants to see the arguments, or to add some.
func Load(path string, bundles ...string) (*Early, error) {
	if err := isProgram(path); err != nil {
		return nil, fmt.Errorf("load runsc: %w", err)
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("load runsc: %w", err)
	}
	defer theirs.Close()
	cmd := exec.Command(path, bundles...)
	cmd.Env = environment(fmt.Sprintf("BRIG_ARGV_FD=%d", startFD), fmt.Sprintf("BRIG_START_FD=%d", startFD))
	cmd.ExtraFiles = []*os.File{theirs}
	if err := startGrown(cmd); err != nil {
		ours.Close()
		return nil, fmt.Errorf("load runsc: %w", err)
	}
	return &Early{cmd, ours}, nil
}

func isProgram(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var magic [len(elf.ELFMAG)]byte
	if _, err := io.ReadFull(f, magic[:]); err != nil || string(magic[:]) != elf.ELFMAG {
		return fmt.Errorf("%s is no ELF program", path)
	}
	return nil
}

// Release ends a runsc that has not been told what to do.
func (e *Early) Release() {
	if e == nil {
		return
	}
	e.socket.Close()
	_ = e.cmd.Wait() // how it ends matters to nobody
}

// becomes tells it what to do. false: it is of no use, and has done nothing: it is another
// program than cmd's, another build than brig's, or has ended, as it does with ctx.
func (e *Early) becomes(ctx context.Context, cmd *exec.Cmd, stdio [3]*os.File) bool {
	if e == nil {
		return false
	}
	stop := context.AfterFunc(ctx, func() { _ = e.cmd.Process.Kill() }) // an error means that it has ended
	defer stop()
	if e.cmd.Path == cmd.Path {
		if n, _ := e.socket.Read(make([]byte, 1)); n == 1 && e.tell(cmd, stdio) == nil {
			return true
		}
	}
	e.Release()
	return false
}

func (e *Early) tell(cmd *exec.Cmd, stdio [3]*os.File) error {
	message, err := json.Marshal(struct {
		Dir  string   `json:"dir"`
		Args []string `json:"args"`
	}{cmd.Dir, cmd.Args[1:]})
	if err != nil {
		return err
	}
	message = append(binary.LittleEndian.AppendUint32(nil, uint32(len(message))), message...)
	sent, err := sendStdio(e.socket, message, stdio)
	if err != nil {
		return err
	}
	_, err = e.socket.Write(message[sent:])
	return err
}

// sendStdio sends what the socket takes at once of b, with streams. Where there is none it
// is /dev/null.
func sendStdio(socket *os.File, b []byte, stdio [3]*os.File) (sent int, err error) {
	nothing, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer nothing.Close()
	var fds []int
	for _, f := range stdio {
		if f == nil {
			f = nothing
		}
		fds = append(fds, int(f.Fd()))
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		sent, failed = unix.SendmsgN(int(fd), b, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL)
		return failed != unix.EAGAIN
	})
	if err != nil {
		return 0, err
	}
	return sent, failed
}

// launch starts a command that boots a sentry, by what was loaded early if it can.
func (r *Runsc) launch(ctx context.Context, cmd *exec.Cmd, early *Early, stdio [3]*os.File) (*exec.Cmd, *os.File, error) {
	if err := os.MkdirAll(r.Root, 0o711); err != nil {
		early.Release()
		return nil, nil, err
	}
	if early.becomes(ctx, cmd, stdio) {
		return early.cmd, early.socket, nil
	}
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close()
	setStdio(cmd, stdio)
	cmd.Env = environment(fmt.Sprintf("BRIG_START_FD=%d", startFD))
	cmd.ExtraFiles = []*os.File{theirs}
	if err := startGrown(cmd); err != nil {
		ours.Close()
		return nil, nil, err
	}
	return cmd, ours, nil
}

// startGrown starts a command that boots a sentry. That dups stdio to descriptors 253 to
// 255, and Linux stalls for an RCU grace period when a process with threads grows its
// descriptor table. Handed down at the exec, when there is one thread, descriptor 255
// grows the table for free.
func startGrown(cmd *exec.Cmd) error {
	devNull, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer devNull.Close()
	cmd.ExtraFiles = append(cmd.ExtraFiles, make([]*os.File, 253-len(cmd.ExtraFiles))...)
	cmd.ExtraFiles[252] = devNull
	return cmd.Start()
}
