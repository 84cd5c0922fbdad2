package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	brigv1 "brig/nodeagent/api/brig/v1"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/durationpb"
)

// limitFlags bound a sandbox, and tell what it is shown and when it is ready.
type limitFlags struct {
	cpu, cpuRequest       float64
	memory, memoryRequest uint64
	pids, disk            uint64
	gpu                   gpuFlags
	mounts, tmpfs         []string
	secrets, secretFiles  []string
	timeout, idleTimeout  time.Duration
	ready                 string
	readyTimeout          time.Duration
}

func (f *limitFlags) register(fs *pflag.FlagSet) {
	fs.Float64Var(&f.cpu, "cpu", 0, "`CORES` that it may use at most, for example 0.5 (default: the node's)")
	fs.Float64Var(&f.cpuRequest, "cpu-request", 0, "`CORES` that it gets when all are wanted")
	fs.Uint64Var(&f.memory, "memory", 0, "`MIB`, a hard limit (default: the node's)")
	fs.Uint64Var(&f.memoryRequest, "memory-request", 0, "`MIB` that are taken from it last when the node is short of memory")
	fs.Uint64Var(&f.pids, "pids", 0, "`NUMBER` of processes and threads at once (default: the node's)")
	fs.Uint64Var(&f.disk, "disk", 0, "`MIB` that it may write to its root filesystem (default: the node's)")
	f.gpu.register(fs)
	fs.StringArrayVar(&f.mounts, "mount", nil, "`MOUNT` as type=bind,source=PATH,target=PATH[,rw] or type=tmpfs,target=PATH[,size=MIB] (repeatable)")
	fs.StringArrayVar(&f.tmpfs, "tmpfs", nil, "`PATH[:MIB]` of a filesystem in memory (repeatable)")
	fs.StringArrayVar(&f.secrets, "secret", nil, "`NAME[=VALUE]` for the environment, kept out of logs and inspect; without a value, brig's own variable NAME (repeatable)")
	fs.StringArrayVar(&f.secretFiles, "secret-file", nil, "`NAME=FILE` likewise, with what the file holds but for a newline at its end (repeatable)")
	fs.DurationVar(&f.timeout, "timeout", 0, "`DURATION` until the sandbox is ended, wall clock, for example 90s or 2h (default: the node's, 5m)")
	fs.DurationVar(&f.idleTimeout, "idle-timeout", 0, "`DURATION` without an exec, a write to stdin or a tunnel's connection, after which it is ended")
	fs.StringVar(&f.ready, "ready", "", "return when `tcp:PORT` accepts, or exec:COMMAND, split at spaces, exits with 0")
	fs.DurationVar(&f.readyTimeout, "ready-timeout", 0, "`DURATION` that --ready may take, after which the create fails (default: 1m)")
}

// apply adds to req what was said. What was not stays absent, for brigd to decide.
func (f *limitFlags) apply(fs *pflag.FlagSet, req *brigv1.CreateRequest) (err error) {
	if req.Gpu, err = f.gpu.request(); err != nil {
		return err
	}
	if req.Resources, err = f.resources(fs); err != nil {
		return err
	}
	if req.Mounts, err = f.allMounts(); err != nil {
		return err
	}
	if req.Secrets, err = f.allSecrets(); err != nil {
		return err
	}
	if req.Ready, err = f.probe(fs); err != nil {
		return err
	}
	if fs.Changed("timeout") {
		req.Timeout = durationpb.New(f.timeout)
	}
	if fs.Changed("idle-timeout") {
		req.IdleTimeout = durationpb.New(f.idleTimeout)
	}
	return nil
}

// resources refuses a zero that was said: to brigd it is none.
func (f *limitFlags) resources(fs *pflag.FlagSet) (*brigv1.Resources, error) {
	said := false
	for name, positive := range map[string]bool{
		"cpu": f.cpu > 0, "cpu-request": f.cpuRequest > 0, "memory": f.memory > 0,
		"memory-request": f.memoryRequest > 0, "pids": f.pids > 0, "disk": f.disk > 0,
	} {
		if fs.Changed(name) && !positive {
			return nil, usagef("--%s must be positive; leave it out for the node's default", name)
		}
		said = said || fs.Changed(name)
	}
	if !said {
		return nil, nil
	}
	return &brigv1.Resources{
		Cpu: f.cpu, CpuRequest: f.cpuRequest, MemoryMib: f.memory, MemoryRequestMib: f.memoryRequest, Pids: f.pids, DiskMib: f.disk,
	}, nil
}

func (f *limitFlags) allMounts() (list []*brigv1.Mount, err error) {
	for _, text := range f.mounts {
		m, err := mount(text)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	for _, text := range f.tmpfs {
		target, size, sized := strings.Cut(text, ":")
		t := &brigv1.TmpfsMount{}
		if sized {
			if t.SizeMib, err = strconv.ParseUint(size, 10, 64); err != nil || t.SizeMib == 0 {
				return nil, usagef("--tmpfs %q: write it as PATH or PATH:MIB", text)
			}
		}
		list = append(list, &brigv1.Mount{Target: target, Source: &brigv1.Mount_Tmpfs{Tmpfs: t}})
	}
	return list, nil
}

// mount parses what --mount takes, which is docker's form of it.
func mount(text string) (*brigv1.Mount, error) {
	wrong := func(why string) error {
		return usagef("--mount %q: %s; write it as type=bind,source=PATH,target=PATH[,rw] or type=tmpfs,target=PATH[,size=MIB]", text, why)
	}
	given := map[string]string{}
	for _, part := range strings.Split(text, ",") {
		key, value, _ := strings.Cut(part, "=")
		if _, twice := given[key]; twice {
			return nil, wrong(key + " is given twice")
		}
		given[key] = value
	}
	take := func(key string) (value string, ok bool) {
		value, ok = given[key]
		delete(given, key)
		return value, ok
	}
	kind, _ := take("type")
	target, _ := take("target")
	m := &brigv1.Mount{Target: target}
	switch kind {
	case "bind":
		source, _ := take("source")
		flag, writable := take("rw")
		if flag != "" {
			return nil, wrong("rw takes no value")
		}
		m.Source = &brigv1.Mount_Bind{Bind: &brigv1.BindMount{Source: source, Writable: writable}}
	case "tmpfs":
		t := &brigv1.TmpfsMount{}
		if size, ok := take("size"); ok {
			var err error
			if t.SizeMib, err = strconv.ParseUint(size, 10, 64); err != nil || t.SizeMib == 0 {
				return nil, wrong("size is no positive number")
			}
		}
		m.Source = &brigv1.Mount_Tmpfs{Tmpfs: t}
	default:
		return nil, wrong("type is neither bind nor tmpfs")
	}
	for key := range given {
		return nil, wrong("it has no " + key)
	}
	return m, nil
}

// maxSecret is more than brigd takes.
const maxSecret = 1 << 20

// allSecrets quotes no value in an error.
func (f *limitFlags) allSecrets() (map[string]string, error) {
	all := map[string]string{}
	add := func(name, value string) error {
		if _, twice := all[name]; twice {
			return usagef("secret %s is given twice", name)
		}
		all[name] = value
		return nil
	}
	for _, text := range f.secrets {
		name, value, said := strings.Cut(text, "=")
		if !said {
			if value, said = os.LookupEnv(name); !said {
				return nil, usagef("--secret %s: brig's environment has no such variable; write NAME=VALUE, or use --secret-file", name)
			}
		}
		if err := add(name, value); err != nil {
			return nil, err
		}
	}
	for _, text := range f.secretFiles {
		name, path, ok := strings.Cut(text, "=")
		if !ok || path == "" {
			return nil, usagef("--secret-file %q: write it as NAME=FILE", text)
		}
		value, err := readSecret(path)
		if err != nil {
			return nil, fmt.Errorf("--secret-file: %w", err)
		}
		if err := add(name, value); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	if len(data) > maxSecret {
		return "", fmt.Errorf("%s is longer than %d bytes", path, maxSecret)
	}
	return strings.TrimSuffix(string(data), "\n"), nil
}

// probe splits a command at spaces: brig has no shell to ask, and argv is none.
func (f *limitFlags) probe(fs *pflag.FlagSet) (*brigv1.ReadyProbe, error) {
	if !fs.Changed("ready") {
		if fs.Changed("ready-timeout") {
			return nil, usagef("--ready-timeout is of no use without --ready")
		}
		return nil, nil
	}
	kind, rest, _ := strings.Cut(f.ready, ":")
	p := &brigv1.ReadyProbe{}
	switch port, err := strconv.ParseUint(rest, 10, 32); {
	case kind == "tcp" && err == nil:
		p.Probe = &brigv1.ReadyProbe_TcpPort{TcpPort: uint32(port)}
	case kind == "exec" && strings.TrimSpace(rest) != "":
		p.Probe = &brigv1.ReadyProbe_Exec{Exec: &brigv1.ExecProbe{Argv: strings.Fields(rest)}}
	default:
		return nil, usagef("--ready %q: write it as tcp:PORT or exec:COMMAND", f.ready)
	}
	if fs.Changed("ready-timeout") {
		p.Timeout = durationpb.New(f.readyTimeout)
	}
	return p, nil
}
