package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"brig/internal/config"
)

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 15 * time.Second
	lookEvery    = time.Second
	maxLog       = 16 << 20
)

// Own is the containerd of a node whose configuration names a binary. Not safe for
// concurrent use.
type Own struct {
	cfg        *config.Config
	configPath string
	log        *slog.Logger
}

// New returns the containerd of cfg, which was read from configPath: the shims that
// it starts will read the same.
func New(cfg *config.Config, configPath string, log *slog.Logger) *Own {
	return &Own{cfg: cfg, configPath: configPath, log: log}
}

func (o *Own) pidFile() string { return filepath.Join(o.cfg.RunDir, "containerd.pid") }

// Ensure returns when containerd answers at its address, starting it if need be. One that is
// about to die may answer, too, or be there and not answer.
func (o *Own) Ensure(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("containerd does not answer"))
	defer cancel()
	for started := false; !answers(o.cfg.Containerd.Address); {
		if _, alive := find(o.pidFile()); !alive {
			if started {
				return fmt.Errorf("containerd ended at its start: see %s", o.logFile())
			}
			if err := o.start(); err != nil {
				return err
			}
			started = true
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("start containerd: %w: see %s", context.Cause(ctx), o.logFile())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// Keep starts containerd again whenever it has died, until ctx ends.
func (o *Own) Keep(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := boundLog(o.logFile()); err != nil {
				o.log.Warn("bound containerd's log", "err", err)
			}
			if answers(o.cfg.Containerd.Address) {
				continue
			}
			o.log.Warn("containerd does not answer")
			if err := o.Ensure(ctx); err != nil && ctx.Err() == nil {
				o.log.Error("start containerd again", "err", err)
			}
		}
	}
}

func (o *Own) logFile() string { return filepath.Join(o.cfg.StateDir, "containerd.log") }

// start leaves a child in a session of its own, with no stream that ends with us.
func (o *Own) start() error {
	conf, err := Render(o.cfg)
	if err != nil {
		return err
	}
	confPath := filepath.Join(o.cfg.RunDir, "containerd.toml")
	if err := os.WriteFile(confPath, conf, 0o600); err != nil {
		return fmt.Errorf("write containerd's configuration: %w", err)
	}
	out, err := openLog(o.logFile())
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(o.cfg.Containerd.Binary, "--config", confPath)
	cmd.Env = o.environment()
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start containerd: %w", err)
	}
	go func() { _ = cmd.Wait() }() // reaps it while we live
	start, err := startOf(cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("containerd ended at its start: see %s", o.logFile())
	}
	o.log.Info("started containerd", "pid", cmd.Process.Pid)
	return process{pid: cmd.Process.Pid, start: start}.save(o.pidFile())
}

// ownVariables of brigd are nobody else's.
var ownVariables = []string{"PATH", config.EnvPath, "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}

// environment lets containerd find the shims beside brigd and beside itself, and the
// shims find their configuration.
func (o *Own) environment() []string {
	path := []string{filepath.Dir(o.cfg.Containerd.Binary), os.Getenv("PATH")}
	if exe, err := os.Executable(); err == nil {
		path = append([]string{filepath.Dir(exe)}, path...)
	}
	env := []string{"PATH=" + strings.Join(path, ":"), config.EnvPath + "=" + o.configPath}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if !slices.Contains(ownVariables, name) {
			env = append(env, kv)
		}
	}
	return env
}

// openLog is where containerd writes, at the end of whatever is there.
func openLog(path string) (*os.File, error) {
	if err := boundLog(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open containerd's log: %w", err)
	}
	return f, nil
}

// boundLog keeps one older log of bounded size. containerd goes on writing to the same
// file, so its text is copied and the file emptied; what is written in between is lost.
func boundLog(path string) error {
	fi, err := os.Stat(path)
	if err != nil || fi.Size() <= maxLog {
		return nil
	}
	if err := copyFile(path, path+".1"); err != nil {
		return fmt.Errorf("put containerd's log aside: %w", err)
	}
	if err := os.Truncate(path, 0); err != nil {
		return fmt.Errorf("empty containerd's log: %w", err)
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// Of a log that grew while nobody looked the rest is enough.
	_, err = io.Copy(out, io.LimitReader(in, 2*maxLog))
	return errors.Join(err, out.Close())
}

// Stop ends containerd. Its shims, and what they hold, go on.
func (o *Own) Stop() error {
	p, alive := find(o.pidFile())
	if !alive {
		return nil
	}
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := p.signal(s); err != nil {
			return err
		}
		for until := time.Now().Add(stopTimeout); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
			if _, alive := find(o.pidFile()); !alive {
				return os.Remove(o.pidFile())
			}
		}
	}
	return fmt.Errorf("containerd (pid %d) does not die", p.pid)
}

func answers(address string) bool {
	conn, err := net.DialTimeout("unix", address, time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
