package isolation

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"brig/internal/netns"
	"brig/internal/netpolicy/nft"
	"brig/internal/require"
	"brig/shim/gate"
)

// TestInsideGVisor: the same reach as seen by a program in a real sandbox, through
// gVisor's own network stack, with the gate asked between create and start.
func TestInsideGVisor(t *testing.T) {
	bin := require.Runsc(t)
	w := newWorld(t, "")
	sibling := w.sandbox("sibling")
	w.listen(w.internet, ":80")
	w.listen(w.host, ":22")
	w.listen(sibling.ns, ":8080")
	w.listen(w.cfg.TransitName(), "0.0.0.0:53")
	targets := []string{"203.0.113.2 80", "203.0.113.130 80", "203.0.113.1 22", "169.254.2.1 22", nft.Gateway + " 53", sibling.addr.String() + " 8080", "169.254.169.254 80", "127.0.0.1 22"}
	listed := w.gvisor(bin, "listed", allow("203.0.113.0/25"), targets)
	open := w.gvisor(bin, "open", nil, targets)
	blocked := w.gvisor(bin, "blocked", map[string]string{"brig/block-network": "true"}, targets[:3])
	var got table
	for _, run := range []struct{ name, out string }{{"listed", listed}, {"open", open}, {"blocked", blocked}} {
		for _, line := range strings.Split(strings.TrimSpace(run.out), "\n") {
			target, result, _ := strings.Cut(line, ": ")
			got.row(run.name+" "+target, result)
		}
	}
	got.compare(t, `
listed 203.0.113.2 80              open
listed 203.0.113.130 80            no
listed 203.0.113.1 22              no
listed 169.254.2.1 22              no
listed 169.254.1.1 53              no
listed 10.88.0.1 8080              no
listed 169.254.169.254 80          no
listed 127.0.0.1 22                no
open 203.0.113.2 80                open
open 203.0.113.130 80              open
open 203.0.113.1 22                no
open 169.254.2.1 22                no
open 169.254.1.1 53                open
open 10.88.0.1 8080                no
open 169.254.169.254 80            no
open 127.0.0.1 22                  no
blocked 203.0.113.2 80             no
blocked 203.0.113.130 80           no
blocked 203.0.113.1 22             no
`)
}

// gvisor runs a sandbox that tries the targets and returns its output.
func (w *world) gvisor(bin, name string, annotations map[string]string, targets []string) string {
	w.t.Helper()
	s := w.sandbox(name)
	bundle := w.bundle(s, targets)
	block, err := gate.Plan(annotations, &w.cfg)
	w.must(err)
	network := "sandbox"
	if block {
		network = "none"
	}
	runsc := func(args ...string) *exec.Cmd {
		all := append([]string{"--root", filepath.Join(bundle, "state"), "--network", network, "--ignore-cgroups", "--overlay2=none"}, args...)
		return exec.Command(filepath.Join(bin, "deps", "runsc"), all...)
	}
	out, err := os.Create(filepath.Join(bundle, "out"))
	w.must(err)
	defer out.Close()
	create := runsc("create", "--bundle", bundle, name)
	create.Stdout, create.Stderr = out, out
	w.must(w.onHost(create.Run))
	defer func() {
		w.must(runsc("delete", "--force", name).Run())
		// runsc pins an empty namespace for its file server beside its state.
		w.must(unix.Unmount(filepath.Join(bundle, "state", "null-netns"), unix.MNT_DETACH))
	}()
	state, err := runsc("state", name).Output()
	w.must(err)
	var sentry struct{ Pid int }
	w.must(json.Unmarshal(state, &sentry))
	w.must(w.onHost(func() error {
		return gate.Check(w.t.Context(), &w.cfg, gate.Request{Namespace: "default", ID: name, SentryPID: sentry.Pid, Annotations: annotations, BlockNetwork: block})
	}))
	w.must(w.onHost(func() error {
		if output, err := runsc("start", name).CombinedOutput(); err != nil {
			return fmt.Errorf("start %s: %w: %s", name, err, output)
		}
		return nil
	}))
	return w.output(out.Name())
}

// output of a script, once it wrote its last line.
func (w *world) output(path string) string {
	w.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		data, err := os.ReadFile(path)
		w.must(err)
		if text, ended := strings.CutSuffix(string(data), "end\n"); ended {
			return text
		}
	}
	w.t.Fatal("the sandbox did not end")
	return ""
}

// bundle is an OCI bundle around busybox.
func (w *world) bundle(s *sandbox, targets []string) string {
	w.t.Helper()
	dir := w.t.TempDir()
	busybox, err := os.ReadFile("/bin/busybox")
	w.must(err)
	w.must(os.MkdirAll(filepath.Join(dir, "rootfs", "proc"), 0o755))
	w.must(os.WriteFile(filepath.Join(dir, "rootfs", "busybox"), busybox, 0o755))
	var script strings.Builder
	for _, target := range targets {
		fmt.Fprintf(&script, "if /busybox nc -w 1 %s </dev/null >/dev/null 2>&1; then echo '%s: open'; else echo '%s: no'; fi\n", target, target, target)
	}
	script.WriteString("echo end\n")
	config, err := json.Marshal(map[string]any{
		"ociVersion": "1.1.0",
		"process":    map[string]any{"args": []string{"/busybox", "sh", "-c", script.String()}, "cwd": "/", "user": map[string]int{"uid": 0, "gid": 0}},
		"root":       map[string]any{"path": "rootfs"},
		"linux": map[string]any{"namespaces": []map[string]string{
			{"type": "pid"}, {"type": "mount"}, {"type": "network", "path": netns.Path(s.ns)},
		}},
	})
	w.must(err)
	w.must(os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600))
	return dir
}
