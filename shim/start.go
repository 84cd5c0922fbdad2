package shim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"brig/shim/rootfs"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/v2/defaults"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	containerd "github.com/containerd/containerd/v2/pkg/shim"
)

// addressFile, in the bundle, tells containerd's package and the delete verb which
// socket to remove.
const addressFile = "address"

// Start makes the process that serves the sandbox and tells where it does.
func (manager) Start(ctx context.Context, p *bootapi.BootstrapParams) (_ *bootapi.BootstrapResult, err error) {
	namespace, err := namespaces.NamespaceRequired(ctx)
	if err != nil {
		return nil, err
	}
	dir := p.GetSocketDir()
	if dir == "" {
		dir = filepath.Join(defaults.DefaultStateDir, "s")
	}
	address, err := containerd.CreateSocketAddress(ctx, dir, p.GetContainerdGrpcAddress(), p.GetInstanceID(), false)
	if err != nil {
		return nil, err
	}
	socket, err := listen(address)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	if err := errors.Join(os.WriteFile(addressFile, []byte(address), 0o600), spawn(namespace, p, socket)); err != nil {
		return nil, errors.Join(err, containerd.RemoveSocket(address))
	}
	result := &bootapi.BootstrapResult{Version: 3, Protocol: "ttrpc", Address: address}
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
	args := []string{"-namespace", namespace, "-id", p.GetInstanceID(), "-address", p.GetContainerdGrpcAddress()}
	if p.GetLogLevel() <= bootapi.LogLevel_LOG_LEVEL_DEBUG {
		args = append(args, "-debug")
	}
	cmd := exec.Command(self, args...)
	cmd.ExtraFiles = []*os.File{socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	// A shim that dies early for want of memory leaves a sandbox without a nurse, so
	// it asks for mercy, where it may.
	_ = containerd.AdjustOOMScore(cmd.Process.Pid)
	return cmd.Process.Release()
}
