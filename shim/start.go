package shim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"brig/shim/cgroup"
	"brig/shim/rootfs"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/defaults"
	"github.com/containerd/containerd/v2/pkg/identifiers"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	containerd "github.com/containerd/containerd/v2/pkg/shim"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// newestTask is the newest version of the Task API that is served.
const newestTask = 3

// addressFile, in the bundle, tells the delete verb which socket to remove.
const addressFile = "address"

// start is the verb, for containerds of both ages.
func (m manager) start(ctx context.Context) error {
	input, err := io.ReadAll(io.LimitReader(os.Stdin, maxInput))
	if err != nil {
		return fmt.Errorf("read stdin: %w", err)
	}
	p := bootstrap(input, m.flags)
	legacy := p == nil
	if legacy {
		p = m.flags.params()
		if err := addOptions(p, input); err != nil {
			return err
		}
		p.ContainerdVersion = parentVersion()
	}
	result, err := m.Start(ctx, p)
	if err != nil {
		return err
	}
	if legacy {
		_, err = os.Stdout.Write(legacyAnswer(result))
		return err
	}
	return answer(result)
}

// bootstrap is the message of a newer containerd; nil if the input is not one. Options could
// be read as one, too, but not with the id and namespace of the flags.
func bootstrap(input []byte, f flags) *bootapi.BootstrapParams {
	p := new(bootapi.BootstrapParams)
	if len(input) == 0 || proto.Unmarshal(input, p) != nil || p.GetInstanceID() != f.id || p.GetNamespace() != f.namespace {
		return nil
	}
	return p
}

// Start makes the process that serves the sandbox, unless its pod has one, and tells
// where it does.
func (manager) Start(ctx context.Context, p *bootapi.BootstrapParams) (_ *bootapi.BootstrapResult, err error) {
	namespace, err := namespaces.NamespaceRequired(ctx)
	if err != nil {
		return nil, err
	}
	if err := identifiers.Validate(p.GetInstanceID()); err != nil {
		return nil, err
	}
	dir := p.GetSocketDir()
	if dir == "" {
		dir = filepath.Join(defaults.DefaultStateDir, "s")
	}
	pod, err := podOf(".")
	if err != nil {
		return nil, err
	}
	address, err := containerd.CreateSocketAddress(ctx, dir, p.GetContainerdGrpcAddress(), cmp.Or(pod, p.GetInstanceID()), false)
	if err != nil {
		return nil, err
	}
	result := &bootapi.BootstrapResult{Version: taskVersion(p), Protocol: "ttrpc", Address: address}
	if pod != "" {
		if !containerd.CanConnect(address) {
			return nil, fmt.Errorf("the shim of pod %s: %w", pod, errdefs.ErrNotFound)
		}
		return result, os.WriteFile(addressFile, []byte(address), 0o600)
	}
	socket, err := listen(address)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	if err := errors.Join(os.WriteFile(addressFile, []byte(address), 0o600), spawn(namespace, p, socket)); err != nil {
		return nil, errors.Join(err, containerd.RemoveSocket(address))
	}
	return result, result.AddExtension(rootfs.Capabilities())
}

// listen takes over the socket of a shim that is dead, never that of a living one.
func listen(address string) (*os.File, error) {
	l, err := containerd.NewSocket(address)
	if err != nil && containerd.SocketEaddrinuse(err) {
		if containerd.CanConnect(address) {
			return nil, fmt.Errorf("a shim serves %s already", address)
		}
		if err := containerd.RemoveSocket(address); err != nil {
			return nil, fmt.Errorf("remove a dead shim's socket: %w", err)
		}
		l, err = containerd.NewSocket(address)
	}
	if err != nil {
		return nil, fmt.Errorf("make socket: %w", err)
	}
	return file(l)
}

// file keeps the socket while the listener goes, and with it the listener's habit of
// removing the path.
func file(l *net.UnixListener) (*os.File, error) {
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	return f, errors.Join(err, l.Close())
}

// spawn starts this program again as the server, in a process group of its own.
func spawn(namespace string, p *bootapi.BootstrapParams, socket *os.File) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := serverArgs(namespace, p.GetInstanceID(), p.GetContainerdGrpcAddress())
	if p.GetLogLevel() <= bootapi.LogLevel_LOG_LEVEL_DEBUG {
		args = append(args, "-debug")
	}
	environment, err := configured(p)
	if err != nil {
		return err
	}
	log, err := openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(self, args...)
	cmd.Env = append(append(os.Environ(), environment...), "TTRPC_ADDRESS="+p.GetContainerdTtrpcAddress()) // where events go
	cmd.ExtraFiles, cmd.Stderr = []*os.File{socket}, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := launch(cmd); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	if err := place(p, cmd.Process.Pid); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	return cmd.Process.Release()
}

// launch starts cmd in a scheduling domain of its own where containerd wants that: no
// stranger's thread shares a core with those of the sandbox, which inherit the domain.
func launch(cmd *exec.Cmd) error {
	if os.Getenv("SCHED_CORE") == "" {
		return cmd.Start()
	}
	runtime.LockOSThread() // the domain is the thread's
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_CREATE, 0, unix.PR_SCHED_CORE_SCOPE_THREAD_GROUP, 0); err != nil {
		return fmt.Errorf("make a core scheduling domain: %w", err)
	}
	return cmd.Start()
}

// place moves the server to where its caller wants it.
func place(p *bootapi.BootstrapParams, pid int) error {
	var runc options.Options
	if _, err := p.FindExtension(&runc); err != nil {
		return fmt.Errorf("runtime options: %w", err)
	}
	if runc.GetShimCgroup() != "" {
		if err := cgroup.Join(runc.GetShimCgroup(), pid); err != nil {
			return fmt.Errorf("place the shim: %w", err)
		}
	}
	// A shim that dies early for want of memory leaves a sandbox without a nurse, so
	// it asks for mercy, where it may.
	_ = containerd.AdjustOOMScore(pid)
	return nil
}
