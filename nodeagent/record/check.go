package record

import (
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"brig/internal/netpolicy"
	"brig/internal/sandbox"
)

// The bounds of a request.
const (
	MaxArgv  = 64 << 10
	MaxEnv   = 128 << 10
	MaxTags  = 64
	MaxTag   = 256
	MaxPorts = 64
)

// Limits are the node's: what a request gets that does not say, and may ask at most.
type Limits struct {
	Timeout, MaxTimeout time.Duration
	// Resources of a request that says nothing of one; zero: no limit.
	Resources Resources
	// CPU and Memory tell that every sandbox needs such a limit, since a quota counts it.
	CPU, Memory bool
	Ceiling     netpolicy.Ceiling
	// GPUCapabilities of the driver that a request may name.
	GPUCapabilities []string
}

var requestID = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)

// Check returns r with the node's defaults filled in, or what is wrong with its first
// bad field.
func (r Request) Check(l Limits) (Request, error) {
	r = r.filled(l)
	for _, check := range []func() error{
		r.checkNames,
		func() error { return CheckArgv(r.Argv, false) },
		r.checkEnvironment,
		func() error { return CheckWorkdir(r.Workdir) },
		r.checkTags,
		func() error { return r.Resources.check(l) },
		r.checkStreams,
		func() error { return checkPorts(r.Ports) },
		r.checkNetwork(l.Ceiling),
		func() error { return checkTimeout(r.Timeout, l.MaxTimeout) },
		r.checkIdleTimeout,
		r.checkReady,
		func() error { return checkMounts(r.Mounts) },
		func() error { return r.GPU.check(l.GPUCapabilities) },
		r.checkText,
	} {
		if err := check(); err != nil {
			return Request{}, err
		}
	}
	return r, nil
}

func (r Request) checkNames() error {
	if r.RequestID != "" && !requestID.MatchString(r.RequestID) {
		return invalid("invalid request_id %q: use at most 128 of [A-Za-z0-9_.-]", r.RequestID)
	}
	if r.Name != "" {
		if err := sandbox.CheckName(r.Name); err != nil {
			return invalid("%v", err)
		}
	}
	if r.Checkpoint != "" {
		return r.checkCheckpoint()
	}
	return CheckImage(r.Image)
}

// CheckImage accepts what can name an image.
func CheckImage(image string) error {
	if image == "" {
		return invalid("image is missing: name one, such as localhost:5000/python:3")
	}
	if _, err := reference.ParseDockerRef(image); err != nil || len(image) > 512 {
		return invalid("invalid image %q: want [host[:port]/]name[:tag][@digest]", image)
	}
	return nil
}

// CheckArgv accepts a program and its arguments.
func CheckArgv(argv []string, needed bool) error {
	if needed && len(argv) == 0 {
		return invalid("argv is empty: name a program to run")
	}
	if len(argv) > 0 && argv[0] == "" {
		return invalid("argv[0] is empty: name a program to run")
	}
	size := 0
	for i, arg := range argv {
		if strings.ContainsRune(arg, 0) {
			return invalid("argv[%d] contains a NUL byte", i)
		}
		size += len(arg) + 1
	}
	if size > MaxArgv {
		return invalid("argv has %d bytes: at most %d", size, MaxArgv)
	}
	return nil
}

// CheckEnv accepts additions to an environment.
func CheckEnv(env map[string]string) error {
	size := 0
	for k, v := range env {
		if k == "" || strings.ContainsAny(k, "=\x00") {
			return invalid("invalid env name %q: it must not be empty nor contain '=' or NUL", k)
		}
		if strings.ContainsRune(v, 0) {
			return invalid("the value of env %s contains a NUL byte", k)
		}
		size += len(k) + len(v) + 2
	}
	if size > MaxEnv {
		return invalid("env has %d bytes: at most %d", size, MaxEnv)
	}
	return nil
}

// CheckWorkdir accepts an absolute path or none.
func CheckWorkdir(dir string) error {
	if dir == "" {
		return nil
	}
	if !path.IsAbs(dir) || len(dir) > 4095 || strings.ContainsRune(dir, 0) {
		return invalid("invalid workdir %q: want an absolute path", dir)
	}
	return nil
}

func (r Request) checkTags() error {
	if len(r.Tags) > MaxTags {
		return invalid("%d tags: at most %d", len(r.Tags), MaxTags)
	}
	for k, v := range r.Tags {
		if k == "" || len(k) > MaxTag || len(v) > MaxTag {
			return invalid("invalid tag %.64q: the name must not be empty, name and value have at most %d bytes", k, MaxTag)
		}
	}
	return nil
}

func checkPorts(ports []Port) error {
	if len(ports) > MaxPorts {
		return invalid("%d ports: at most %d", len(ports), MaxPorts)
	}
	seen := map[uint16]bool{}
	for _, p := range ports {
		if p.Sandbox == 0 {
			return invalid("invalid port 0: want 1 to 65535")
		}
		if seen[p.Sandbox] {
			return invalid("port %d is asked for twice: one tunnel leads to a port", p.Sandbox)
		}
		seen[p.Sandbox] = true
	}
	return nil
}

func checkTimeout(timeout, max time.Duration) error {
	switch {
	case timeout < 0:
		return invalid("invalid timeout %v: want a positive duration", timeout)
	case timeout > max:
		return invalid("invalid timeout %v: at most %v on this node (sandboxes.max_timeout)", timeout, max)
	}
	return nil
}

// checkNetwork also refuses what a network without any network cannot have.
func (r Request) checkNetwork(ceiling netpolicy.Ceiling) func() error {
	return func() error {
		if r.Network.BlockNetwork && len(r.Ports) > 0 {
			return invalid("Cannot specify open ports when block_network is enabled; use an empty cidr_allowlist")
		}
		_, err := CompilePolicy(r.Network, ceiling)
		return err
	}
}

// CompilePolicy is netpolicy.Compile with errors that have a class.
func CompilePolicy(s netpolicy.Spec, ceiling netpolicy.Ceiling) (netpolicy.Policy, error) {
	p, err := netpolicy.Compile(s, ceiling)
	if err != nil {
		return p, errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	return p, nil
}
