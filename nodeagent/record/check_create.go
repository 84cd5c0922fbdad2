package record

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// MinIdleTimeout is the shortest that tells a pause from an end.
const MinIdleTimeout = time.Second

// What a readiness probe gets that does not say, and how often one may try.
const (
	ReadyTimeout     = 60 * time.Second
	ReadyInterval    = 200 * time.Millisecond
	MinReadyInterval = 10 * time.Millisecond
)

// filled is r with the node's defaults in place of what it does not say.
func (r Request) filled(l Limits) Request {
	if r.Timeout == 0 {
		r.Timeout = l.Timeout
	}
	r.Resources = r.Resources.or(l.Resources)
	r.GPU = r.GPU.filled(l.GPUCapabilities)
	if r.Ready != nil {
		p := *r.Ready
		if p.Timeout == 0 {
			p.Timeout = min(ReadyTimeout, r.Timeout)
		}
		if p.Interval == 0 {
			p.Interval = ReadyInterval
		}
		r.Ready = &p
	}
	return r
}

// checkEnvironment bounds env and secrets as the one environment that they become.
func (r Request) checkEnvironment() error {
	if err := CheckEnv(r.Env); err != nil {
		return err
	}
	size := 0
	for k, v := range r.Env {
		size += len(k) + len(v) + 2
	}
	for _, k := range r.Secrets.Names() {
		v := r.Secrets[k]
		if k == "" || strings.ContainsAny(k, "=\x00") {
			return invalid("invalid secret name %q: it must not be empty nor contain '=' or NUL", k)
		}
		if strings.ContainsRune(v, 0) || !utf8.ValidString(v) {
			return invalid("the value of secret %s contains a NUL byte or is no UTF-8", k)
		}
		if _, both := r.Env[k]; both {
			return invalid("%s is both in env and in secrets: leave it out of env", k)
		}
		size += len(k) + len(v) + 2
	}
	if size > MaxEnv {
		return invalid("env and secrets have %d bytes: at most %d", size, MaxEnv)
	}
	return nil
}

// CheckExecEnv accepts additions to the environment of a program in the sandbox. A secret
// stands in place of what has its name, so that name is refused.
func (r *Record) CheckExecEnv(env map[string]string) error {
	for _, name := range r.Request.Secrets.Names() {
		if _, both := env[name]; both {
			return invalid("env %s is a secret of the sandbox's: choose another name", name)
		}
	}
	return CheckEnv(env)
}

func (r Request) checkIdleTimeout() error {
	if r.IdleTimeout != 0 && r.IdleTimeout < MinIdleTimeout {
		return invalid("invalid idle_timeout %v: want at least %v", r.IdleTimeout, MinIdleTimeout)
	}
	return nil
}

func (r Request) checkReady() error {
	p := r.Ready
	switch {
	case p == nil:
		return nil
	case (p.Port == 0) == (len(p.Argv) == 0):
		return invalid("ready wants either a tcp_port or an exec")
	case p.Port != 0 && r.Network.BlockNetwork:
		return invalid("ready.tcp_port needs a network, and block_network is set: give ready.exec")
	case p.Timeout < 0 || p.Timeout > r.Timeout:
		return invalid("invalid ready.timeout %v: want at most the sandbox's timeout, %v", p.Timeout, r.Timeout)
	case p.Interval < MinReadyInterval || p.Interval > p.Timeout:
		return invalid("invalid ready.interval %v: want %v to ready.timeout, which is %v", p.Interval, MinReadyInterval, p.Timeout)
	}
	return CheckArgv(p.Argv, p.Port == 0)
}

// checkCheckpoint: programs that run already have all this.
func (r Request) checkCheckpoint() error {
	if err := CheckCheckpoint(r.Checkpoint); err != nil {
		return invalid("invalid from_checkpoint: %v", err)
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"image", r.Image != ""}, {"argv", len(r.Argv) > 0}, {"env", len(r.Env) > 0}, {"secrets", len(r.Secrets) > 0},
		{"workdir", r.Workdir != ""}, {"tty", r.TTY}, {"stdin", r.Stdin}, {"mounts", len(r.Mounts) > 0},
	} {
		if f.set {
			return invalid("%s cannot be given with from_checkpoint: it is the checkpoint's", f.name)
		}
	}
	return nil
}

// checkText keeps out of every string what a kernel reads as its end, and what a store of
// JSON would not give back as it was.
func (r Request) checkText() error {
	fields := map[string][]string{
		"argv": r.Argv, "env": texts(r.Env), "tags": texts(r.Tags), "secrets": r.Secrets.Names(),
		"request_id": {r.RequestID}, "name": {r.Name}, "image": {r.Image}, "workdir": {r.Workdir}, "from_checkpoint": {r.Checkpoint},
	}
	if r.Ready != nil {
		fields["ready.exec.argv"] = r.Ready.Argv
	}
	if r.GPU != nil {
		fields["gpu"] = append(slices.Clone(r.GPU.Devices), r.GPU.Capabilities...)
	}
	for _, m := range r.Mounts {
		fields["mounts"] = append(fields["mounts"], m.Target, m.Source)
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		for _, s := range fields[name] {
			if strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
				return invalid("%s contains a NUL byte or is no UTF-8: %.64q", name, s)
			}
		}
	}
	return nil
}

func texts(m map[string]string) (list []string) {
	for k, v := range m {
		list = append(list, k, v)
	}
	return list
}
