package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/pinring"
	"gvisor.dev/gvisor/runsc/container"
	"gvisor.dev/gvisor/runsc/specutils"
)

// spare is a gofer that was started before there is anything for it to serve, in the
// namespaces and the group that it will be in. It ends with this process, unless it was
// given something to serve by then.
type spare struct {
	process    *os.Process
	socket     int
	env        []string
	ring       bool
	attr       unix.SysProcAttr // what it was started with; the group is the sandbox's
	namespaces []specs.LinuxNamespace
}

// order is what a spare is told: what it is given at its start otherwise. With it come
// descriptors: one for each mount, then those of Files.
type order struct {
	Args   []string // as if it had been executed with them
	Files  []int    // numbers that descriptors get
	Ring   int      // the one that its ring gets; 0: none
	Mounts []string // where what the others hold is mounted first
}

// namespaces of every gofer, but for its network's and its user namespace, which are last.
var namespaces = []specs.LinuxNamespace{
	{Type: specs.IPCNamespace}, {Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.UTSNamespace},
}

// startSpare starts one for the container that this process was executed to create.
func startSpare() (*spare, error) {
	id := os.Args[len(os.Args)-1]
	sandbox := strings.TrimPrefix(id, "+")
	root, err := container.Load(option("root"), container.FullID{SandboxID: sandbox, ContainerID: sandbox}, container.LoadOpts{SkipCheck: true})
	if err != nil {
		return nil, err
	}
	network := specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: filepath.Join(option("shared-root"), specutils.NullNetNSFilename)}
	if _, err := os.Stat(network.Path); err != nil {
		return nil, err
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	theirs := os.NewFile(uintptr(ends[1]), "spare")
	defer theirs.Close()
	nothing, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer nothing.Close()
	s := &spare{socket: ends[0], namespaces: append(slices.Clone(namespaces), network), env: environment()}
	// The arguments tell people, and who looks for what is left of a sandbox, what it is.
	cmd := exec.Command(specutils.ExePath, os.Args[1:]...)
	cmd.Args[0] = goferName
	if i := slices.Index(cmd.Args, "create"); i > 0 {
		cmd.Args[i] = "gofer"
	}
	cmd.Env = append(slices.Clone(s.env), fmt.Sprintf("%s=%d", spareEnv, spareFD))
	cmd.ExtraFiles = make([]*os.File, lastFD-firstFD+1)
	for i := range reserved {
		cmd.ExtraFiles[i] = nothing
	}
	cmd.ExtraFiles[spareFD-firstFD], cmd.ExtraFiles[lastFD-firstFD] = theirs, nothing
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if user, ok := specutils.GetNS(specs.UserNamespace, root.Spec); ok {
		s.namespaces = append(s.namespaces, user)
		specutils.SetUIDGIDMappings(cmd, root.Spec)
		cmd.SysProcAttr.Credential = &syscall.Credential{}
	}
	s.attr = *cmd.SysProcAttr
	if ring, err := pinring.NewDisabledIOURing(); err == nil {
		defer ring.Close()
		cmd.ExtraFiles[ringFD-firstFD], s.ring = ring, true
	}
	err = startIn(root.Sandbox.CgroupJSON.Cgroup, cmd, s.namespaces)
	if s.process = cmd.Process; err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// environment is what gVisor gives a gofer, when this process has none of brig's own any more.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, stayEnv+"=") || strings.HasPrefix(v, "GOMAXPROCS=")
	})
}

// option is the value of one of this process's flags, which its caller writes in one way.
func option(name string) string {
	for _, arg := range os.Args {
		if value, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			return value
		}
	}
	return ""
}

// end is for one that was given nothing.
func (s *spare) end() {
	if s == nil {
		return
	}
	unix.Close(s.socket)
	if s.process != nil {
		_ = s.process.Kill()
		_, _ = s.process.Wait()
	}
}

// become makes it what cmd would have started. With an error it has done nothing.
func (s *spare) become(cmd *exec.Cmd, nss []specs.LinuxNamespace, spec *specs.Spec) error {
	if s == nil {
		return errors.New("there is none")
	}
	if err := s.fits(cmd, nss); err != nil {
		return err
	}
	paths, err := sources(spec)
	if err != nil {
		return err
	}
	var fds []int
	defer func() {
		for _, fd := range fds[:min(len(fds), len(paths))] {
			unix.Close(fd)
		}
	}()
	for _, path := range paths {
		fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return fmt.Errorf("what is mounted at %s: %w", path, err)
		}
		fds = append(fds, fd)
	}
	o := order{Args: cmd.Args, Mounts: paths, Ring: descriptor(cmd, "pin-ring-fd")}
	for i, file := range cmd.ExtraFiles {
		if number := firstFD + i; number != o.Ring {
			o.Files, fds = append(o.Files, number), append(fds, int(file.Fd()))
		}
	}
	if len(fds) > maxFDs || len(cmd.ExtraFiles) > reserved {
		return errors.New("it is given too much")
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(s.socket, text, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL); err != nil {
		return err
	}
	for {
		switch n, err := unix.Read(s.socket, make([]byte, 1)); {
		case err == unix.EINTR:
		case err != nil || n != 1:
			return fmt.Errorf("it has ended: %v", err)
		default:
			unix.Close(s.socket)
			cmd.Process = s.process
			return nil
		}
	}
}

// fits tells whether cmd would be started as s was.
func (s *spare) fits(cmd *exec.Cmd, nss []specs.LinuxNamespace) error {
	is := func(ns specs.LinuxNamespace) bool { return ns.Type == specs.NetworkNamespace }
	network := slices.IndexFunc(nss, is)
	switch {
	case cmd.Args[0] != goferName || cmd.Path != specutils.ExePath || cmd.Dir != "":
		return fmt.Errorf("it is for a gofer, not for %s", cmd)
	case cmd.Stdin != nil || cmd.Stdout != nil || cmd.Stderr != nil:
		return errors.New("it has no streams")
	case !reflect.DeepEqual(*cmd.SysProcAttr, s.attr):
		return errors.New("it was started in another way")
	case !slices.Equal(cmd.Env, s.env):
		return errors.New("it has another environment")
	case network < 0 || !sameFile(nss[network].Path, fmt.Sprintf("/proc/%d/ns/net", s.process.Pid)) ||
		!slices.Equal(slices.DeleteFunc(slices.Clone(nss), is), slices.DeleteFunc(slices.Clone(s.namespaces), is)):
		return errors.New("it has other namespaces")
	case descriptor(cmd, "pin-ring-fd") != 0 && !s.ring:
		return errors.New("it has no ring")
	case slices.ContainsFunc(cmd.Args, func(arg string) bool { return strings.HasPrefix(arg, "--host-uds") }):
		return errors.New("it has given up capabilities that this one keeps")
	case descriptor(cmd, "dev-io-fd") != 0:
		return errors.New("it has no devices")
	}
	return nil
}

// descriptor is the number of the one that cmd is given for a flag; 0: none.
func descriptor(cmd *exec.Cmd, flag string) int {
	for _, arg := range cmd.Args {
		if value, ok := strings.CutPrefix(arg, "--"+flag+"="); ok {
			if number, err := strconv.Atoi(value); err == nil && number >= firstFD && number-firstFD < len(cmd.ExtraFiles) {
				return number
			}
		}
	}
	return 0
}

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	other, errOther := os.Stat(b)
	return err == nil && errOther == nil && os.SameFile(one, other)
}

// sources are the paths that a gofer mounts from: its view of the host is as old as it is, so
// that what is there now is mounted there once more. Hooks would see more of the host.
func sources(spec *specs.Spec) (paths []string, err error) {
	if spec.Hooks != nil && len(spec.Hooks.CreateContainer) > 0 {
		return nil, errors.New("there are hooks")
	}
	paths = []string{spec.Root.Path}
	for _, m := range spec.Mounts {
		if specutils.IsGoferMount(m) && !slices.Contains(paths, m.Source) {
			paths = append(paths, m.Source)
		}
	}
	for _, path := range paths {
		if plain, err := filepath.EvalSymlinks(path); err != nil || plain != path || !filepath.IsAbs(path) {
			return nil, fmt.Errorf("%s is not plain: %v", path, err)
		}
	}
	return paths, nil
}
