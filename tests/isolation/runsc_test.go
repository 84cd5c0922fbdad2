package isolation

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
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
	require.Runsc(t)
	w := newWorld(t, "")
	sibling := w.sandbox("sibling")
	w.listen(w.internet, ":80")
	w.listen(w.host, ":22")
	w.listen(sibling.ns, ":8080")
	w.listen(w.cfg.TransitName(), "0.0.0.0:53")
	targets := []string{"203.0.113.2:80", "203.0.113.130:80", "203.0.113.1:22", "169.254.2.1:22", nft.Gateway + ":53", sibling.addr.String() + ":8080", "169.254.169.254:80", "127.0.0.1:22"}
	var got table
	for _, run := range []struct {
		name        string
		annotations map[string]string
		targets     []string
	}{
		{"listed", allow("203.0.113.0/25"), targets},
		{"open", nil, targets},
		{"blocked", map[string]string{"brig/block-network": "true"}, targets[:3]},
	} {
		var tries strings.Builder
		for _, target := range run.targets {
			fmt.Fprintf(&tries, "tcp4 %s x\n", target)
		}
		out := w.gvisor(w.sandbox(run.name), guest{annotations: run.annotations, args: []string{"dial", "/file"}, file: []byte(tries.String())})
		for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
			target, result, _ := strings.Cut(line, ": ")
			got.row(run.name+" "+strings.Fields(target)[1], result)
		}
	}
	got.compare(t, `
listed 203.0.113.2:80              open
listed 203.0.113.130:80            refused
listed 203.0.113.1:22              refused
listed 169.254.2.1:22              refused
listed 169.254.1.1:53              refused
listed 10.88.0.1:8080              refused
listed 169.254.169.254:80          refused
listed 127.0.0.1:22                refused
open 203.0.113.2:80                open
open 203.0.113.130:80              open
open 203.0.113.1:22                refused
open 169.254.2.1:22                refused
open 169.254.1.1:53                open
open 10.88.0.1:8080                refused
open 169.254.169.254:80            refused
open 127.0.0.1:22                  refused
blocked 203.0.113.2:80             refused
blocked 203.0.113.130:80           refused
blocked 203.0.113.1:22             refused
`)
}

// hostileProgram is tests/isolation/hostile, built once.
var hostileProgram = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "brig-hostile")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "hostile")
	build := exec.Command("go", "build", "-o", path, "brig/tests/isolation/hostile")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build hostile: %w: %s", err, out)
	}
	return os.ReadFile(path)
})

// guest is a run of the program hostile as root of a sandbox that may use raw sockets.
// With raw, runsc lets it write frames of its own making, which is as bad as a
// compromised sentry.
type guest struct {
	annotations map[string]string
	args        []string
	file        []byte // its /file
	raw         bool
}

// gvisor runs a guest in a sandbox and returns its output.
func (w *world) gvisor(s *sandbox, g guest) string {
	w.t.Helper()
	bin := require.Runsc(w.t)
	bundle, name := w.bundle(s, g), strings.TrimPrefix(s.id, "default-")
	block, err := gate.Plan(g.annotations, &w.cfg)
	w.must(err)
	flags := []string{"--root", filepath.Join(bundle, "state"), "--network=sandbox", "--ignore-cgroups", "--overlay2=none", "--net-raw"}
	if block {
		flags[2] = "--network=none"
	}
	if g.raw {
		flags = append(flags, "--allow-packet-socket-write")
	}
	runsc := func(args ...string) *exec.Cmd {
		return exec.Command(filepath.Join(bin, "deps", "runsc"), append(flags, args...)...)
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
		return gate.Check(w.t.Context(), &w.cfg, gate.Request{Namespace: "default", ID: name, SentryPID: sentry.Pid, Annotations: g.annotations, BlockNetwork: block})
	}))
	w.must(w.onHost(func() error {
		if output, err := runsc("start", name).CombinedOutput(); err != nil {
			return fmt.Errorf("start %s: %w: %s", name, err, output)
		}
		return nil
	}))
	return w.output(out.Name())
}

// output of a guest, once it wrote its last line.
func (w *world) output(path string) string {
	w.t.Helper()
	var data []byte
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var err error
		data, err = os.ReadFile(path)
		w.must(err)
		if text, ended := strings.CutSuffix(string(data), "end\n"); ended {
			if strings.Contains(text, "failed:") {
				w.t.Fatalf("the program in the sandbox: %s", text)
			}
			return text
		}
	}
	w.t.Fatalf("the sandbox did not end; so far: %s", data)
	return ""
}

// bundle is an OCI bundle around the program.
func (w *world) bundle(s *sandbox, g guest) string {
	w.t.Helper()
	dir := w.t.TempDir()
	program, err := hostileProgram()
	w.must(err)
	w.must(os.MkdirAll(filepath.Join(dir, "rootfs", "proc"), 0o755))
	w.must(os.WriteFile(filepath.Join(dir, "rootfs", "hostile"), program, 0o755))
	w.must(os.WriteFile(filepath.Join(dir, "rootfs", "file"), g.file, 0o600))
	caps := []string{"CAP_NET_RAW", "CAP_NET_ADMIN"}
	config, err := json.Marshal(map[string]any{
		"ociVersion": "1.1.0",
		"process": map[string]any{
			"args": append([]string{"/hostile"}, g.args...), "cwd": "/", "user": map[string]int{"uid": 0, "gid": 0},
			"capabilities": map[string]any{"bounding": caps, "effective": caps, "permitted": caps},
		},
		"root": map[string]any{"path": "rootfs"},
		"linux": map[string]any{"namespaces": []map[string]string{
			{"type": "pid"}, {"type": "mount"}, {"type": "network", "path": netns.Path(s.ns)},
		}},
	})
	w.must(err)
	w.must(os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600))
	return dir
}

// frameFile is the form of frames that hostile reads.
func frameFile(frames [][]byte) []byte {
	var b []byte
	for _, f := range frames {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(f))), f...)
	}
	return b
}
