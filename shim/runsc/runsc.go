// Package runsc drives gVisor's runtime for one sandbox.
//
// What makes or unmakes processes (create, start, checkpoint, restore, delete) is
// runsc's command line: it needs runsc's own privileges, its gofer and its lock. Everything else (exec,
// wait, signal, pause) is a call on the sentry's control socket, a millisecond
// instead of a process start. No runsc process outlives the call that made it, but for
// the one that Boot leaves to start what it has created.
//
// The sentry may be compromised. What it answers on the control socket is bounded
// in size and in time, and nothing it says is used as a path or an argument.
//
// A Runsc is a value that describes a sandbox's flags; they must be the same for
// every command about that sandbox, because runsc keeps none of them. It is safe
// for concurrent use; runsc serialises commands about one sandbox itself.
package runsc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"brig/internal/config"
)

// Network is how a sandbox is booted.
type Network string

// The zero value is neither, and refused: the choice must have been made.
const (
	NetworkNone    Network = "none"    // no interface but loopback
	NetworkSandbox Network = "sandbox" // the links of the spec's network namespace
)

// Runsc is the runsc of one sandbox.
type Runsc struct {
	Binary string `json:"binary"`
	// Root is runsc's state, of this sandbox alone: in a shared one runsc takes an id
	// for the abbreviation of another, so that deleting "a" could end "ab". It is made
	// by the first command and removed by Delete.
	Root string `json:"root"`
	// SharedRoot keeps what all sandboxes of the node share (a network namespace for
	// their gofers).
	SharedRoot    string  `json:"shared_root"`
	Platform      string  `json:"platform"`
	Network       Network `json:"network"`
	Overlay       string  `json:"overlay"`
	SystemdCgroup bool    `json:"systemd_cgroup,omitempty"`
	DebugLog      string  `json:"debug_log,omitempty"` // a folder; empty: none
	// DriverCapabilities are what its containers may have of NVIDIA's driver, sorted;
	// nil: nothing, and the sandbox's kernel has no part for it.
	DriverCapabilities []string `json:"driver_capabilities,omitempty"`
}

// For returns the runsc of a sandbox as the node is configured.
func For(cfg *config.Config, namespace, id string) Runsc {
	root := cfg.RunscRoot(namespace)
	return Runsc{
		Binary: Path(cfg), Root: filepath.Join(root, id), SharedRoot: filepath.Dir(root),
		Platform: cfg.Runsc.Platform, Network: NetworkSandbox, Overlay: "none", DebugLog: cfg.Runsc.DebugLog,
	}
}

// args are the flags before the command, in fixed order: the same sandbox, the same
// command line.
func (r *Runsc) args(logFile string) []string {
	args := []string{
		"--root=" + r.Root,
		"--shared-root=" + r.SharedRoot,
		"--log=" + logFile,
		"--log-format=json",
		"--platform=" + r.Platform,
		"--network=" + string(r.Network),
		"--overlay2=" + r.Overlay,
		"--oci-seccomp", // without it runsc ignores a spec's filter; with no filter it changes nothing
	}
	if r.SystemdCgroup {
		args = append(args, "--systemd-cgroup")
	}
	if r.DriverCapabilities != nil {
		args = append(args, "--nvproxy", "--nvproxy-allowed-driver-capabilities="+strings.Join(r.DriverCapabilities, ","))
	}
	if r.DebugLog != "" {
		args = append(args, "--debug", "--debug-log="+strings.TrimSuffix(r.DebugLog, "/")+"/")
	}
	return args
}

// CreateOptions of a container.
type CreateOptions struct {
	Bundle        string
	PIDFile       string      // gets the sentry's pid, once the sandbox is ready; empty: nobody asks
	ConsoleSocket string      // gets the pty's master; empty: no terminal, or one that is in Stdio
	Stdio         [3]*os.File // a root container's; nil: /dev/null
}

func (o CreateOptions) args() []string {
	args := []string{"--bundle=" + o.Bundle}
	if o.PIDFile != "" {
		args = append(args, "--pid-file="+o.PIDFile)
	}
	if o.ConsoleSocket != "" {
		args = append(args, "--console-socket="+o.ConsoleSocket)
	}
	return args
}

// Create boots the sandbox id and returns when it is ready to be started.
func (r *Runsc) Create(ctx context.Context, id string, o CreateOptions) error {
	cmd := r.command(ctx, o.Bundle, "create", id, o.args()...)
	setStdio(cmd, o.Stdio)
	return r.run(ctx, cmd, "create", id, o.Bundle)
}

// Start starts the program of container id. One that joins gets its streams now,
// unless it has a terminal.
func (r *Runsc) Start(ctx context.Context, id, bundle string, stdio *[3]*os.File) error {
	cmd := r.command(ctx, bundle, "start", id)
	if stdio != nil {
		setStdio(cmd, *stdio)
	}
	return r.run(ctx, cmd, "start", id, bundle)
}

// setStdio assigns one by one: a nil *os.File in an interface is not a nil interface.
func setStdio(cmd *exec.Cmd, stdio [3]*os.File) {
	if stdio[0] != nil {
		cmd.Stdin = stdio[0]
	}
	if stdio[1] != nil {
		cmd.Stdout = stdio[1]
	}
	if stdio[2] != nil {
		cmd.Stderr = stdio[2]
	}
}

// Delete ends sandbox id, whatever state it is in, and frees what runsc made for
// it. A sandbox that runsc does not know is no error.
func (r *Runsc) Delete(ctx context.Context, id, bundle string) error {
	if err := r.DeleteContainer(ctx, id, bundle); err != nil {
		return err
	}
	return os.RemoveAll(r.Root)
}

// DeleteContainer ends one container that has joined a sandbox, and frees what runsc
// made for it. One that runsc does not know is no error.
func (r *Runsc) DeleteContainer(ctx context.Context, id, bundle string) error {
	if _, err := os.Stat(r.Root); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := os.Stat(bundle); errors.Is(err, os.ErrNotExist) {
		bundle = r.Root // containerd removes the bundle of a shim that it has given up
	}
	err := r.run(ctx, r.command(ctx, bundle, "delete", id, "--force"), "delete", id, bundle)
	if _, errStat := os.Stat(r.Root); errors.Is(errStat, os.ErrNotExist) {
		return nil // the whole sandbox went at the same time
	}
	return err
}

// Forget removes what runsc keeps of a container whose processes have ended, without runsc:
// with the root container all of the sandbox's.
func (r *Runsc) Forget(id string, joined bool) error {
	if !joined {
		return os.RemoveAll(r.Root)
	}
	files, err := filepath.Glob(filepath.Join(r.Root, id+"_sandbox:*"))
	for _, file := range files {
		err = errors.Join(err, os.Remove(file))
	}
	return err
}

// JoinedID is runsc's name for the container id in a sandbox that has several: runsc
// takes a name for the abbreviation of another, and with a sign at its end that no id
// of containerd's contains no name is.
func JoinedID(id string) string { return id + "+" }

// ClaimedID is runsc's name for the container of a program whose sandbox was booted before
// and has the name id itself.
func ClaimedID(id string) string { return "+" + id }

func (r *Runsc) command(ctx context.Context, bundle, op, id string, args ...string) *exec.Cmd {
	argv := append(r.args(logPath(bundle, op)), op)
	cmd := exec.CommandContext(ctx, r.Binary, append(append(argv, args...), id)...)
	cmd.Dir = bundle
	cmd.Env = environment()
	cmd.WaitDelay = time.Second
	return cmd
}

// environment of every runsc: on cgroup v1 it moves one thread of its own into a sandbox's
// groups, to start processes there (docs/design/0014-groups-by-thread.md). gVisor's own build
// does not know of this, and moves all of itself.
func environment(more ...string) []string {
	return append(append(os.Environ(), "BRIG_JOIN=thread"), more...)
}

// run gives every command a log of its own in the bundle and keeps it only while
// the command runs: what matters of it is in the error.
func (r *Runsc) run(ctx context.Context, cmd *exec.Cmd, op, id, bundle string) error {
	if err := r.check(op); err != nil {
		return err
	}
	path := logPath(bundle, op)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("runsc %s: %w", op, err)
	}
	defer os.Remove(path)
	var stderr tail
	if cmd.Stderr == nil && op == "delete" {
		cmd.Stderr = &stderr
	}
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return newFailure(op, id, err, readTail(path), string(stderr))
}

func (r *Runsc) check(op string) error {
	if r.Network != NetworkNone && r.Network != NetworkSandbox || r.Root == "" || r.SharedRoot == "" {
		return fmt.Errorf("runsc %s: no network mode or no root was chosen", op)
	}
	return nil
}

func logPath(bundle, op string) string { return filepath.Join(bundle, "runsc-"+op+".log") }
