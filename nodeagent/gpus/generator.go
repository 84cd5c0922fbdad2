package gpus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// lookTimeout is how long the driver may take: a GPU that nobody uses is started first.
	lookTimeout = 60 * time.Second
	// maxDocument is many times what a machine full of GPUs has to tell.
	maxDocument = 4 << 20
	// maxComplaint is as much as is read of its words on stderr.
	maxComplaint = 16 << 10
)

// generator is the program that asks the driver.
type generator struct {
	path       string
	driverRoot string
}

// hook is the program that CDI's hooks run. It is installed beside the generator; a node in
// a folder has it beside brigd.
func (g generator) hook() string {
	const name = "nvidia-cdi-hook"
	installed := filepath.Join(filepath.Dir(g.path), name)
	if exe, err := os.Executable(); err == nil && !exists(installed) && exists(filepath.Join(filepath.Dir(exe), name)) {
		return filepath.Join(filepath.Dir(exe), name)
	}
	return installed
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// ask runs it, with nothing of brigd's environment: what NVIDIA's library reads there is
// not for whoever started brigd to say.
func (g generator) ask(ctx context.Context) (Inventory, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, g.path, "-driver-root", g.driverRoot, "-hook", g.hook())
	stdout, stderr := &bounded{limit: maxDocument}, &bounded{limit: maxComplaint}
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", []string{}, stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // of a helper of the driver's that keeps the pipes open
	err := cmd.Run()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Inventory{}, fmt.Errorf("%s has not answered within %v: NVIDIA's driver hangs; look at the kernel's log", g.path, lookTimeout)
	case err != nil && ctx.Err() != nil:
		return Inventory{}, context.Cause(ctx)
	case err != nil:
		return Inventory{}, fmt.Errorf("%s: %w: %s", g.path, err, lastLine(stderr.text.String()))
	case stdout.over:
		return Inventory{}, fmt.Errorf("%s has told more than %d bytes", g.path, maxDocument)
	}
	i, err := parse(stdout.text.Bytes())
	if err != nil {
		return Inventory{}, fmt.Errorf("%s: %w", g.path, err)
	}
	return i, nil
}

// missing tells that it is not installed, which is no fault.
func (g generator) missing() bool {
	_, err := os.Stat(g.path)
	return errors.Is(err, os.ErrNotExist)
}

// bounded keeps the first bytes that are written to it.
type bounded struct {
	text  bytes.Buffer
	limit int
	over  bool
}

// Write never fails: the program is to end by itself.
func (b *bounded) Write(p []byte) (int, error) {
	room := b.limit - b.text.Len()
	if len(p) > room {
		b.over = true
	}
	b.text.Write(p[:min(len(p), room)])
	return len(p), nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.ToValidUTF8(strings.TrimSpace(lines[len(lines)-1]), "?")
}
