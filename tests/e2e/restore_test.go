package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/tests/node"

	"connectrpc.com/connect"
)

// countedBy are the numbers that a sandbox's program has written.
func countedBy(t *testing.T, n *node.Node, id string) (all []int) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		all = nil
		for line := range strings.Lines(n.Brig(t, "logs", id)) {
			if i, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
				all = append(all, i)
			}
		}
		if len(all) < 5 {
			return errString("it does not count")
		}
		return nil
	})
	return all
}

// cloned is an echo server that counts in its memory, and keeps a file open.
const cloned = `import os, socketserver, threading, time
class H(socketserver.BaseRequestHandler):
    def handle(self):
        while b := self.request.recv(1 << 16): self.request.sendall(b)
threading.Thread(target=socketserver.ThreadingTCPServer(("", 7), H).serve_forever, daemon=True).start()
f = open("/kept", "w+")
i = 0
while True:
    i += 1
    print(i, flush=True)
    f.seek(0); f.write(str(i)); f.flush()
    time.sleep(0.02)`

// TestRestoredClones: each goes on from where the checkpoint was taken, and has what is
// its own: hostname, address, files in /etc, entropy, clock, output, tunnels, deadline,
// and the policy of its own request.
func TestRestoredClones(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, "--name", "e2e-original", "--port", "7/tcp", "--env", "KEPT=yes", n.python, "--", "python3", "-c", cloned)
	countedBy(t, n.Node, id)
	conn := dialEcho(t, tunnels(t, n.Node, id)[0].addr(), nil)
	n.Brig(t, "exec", id, "--", "sh", "-c", "sleep 4242 >/dev/null 2>&1 &")
	n.Brig(t, "checkpoint", id, "e2e-clones")
	t.Cleanup(func() { n.Try(t, "checkpoints", "rm", "e2e-clones") })
	at := countedBy(t, n.Node, id)
	if err := ping(conn); err != nil { // it goes on as it was
		t.Errorf("a connection over the checkpoint: %v", err)
	}
	if list := n.Brig(t, "checkpoints", "ls"); !strings.Contains(list, "e2e-clones") || !strings.Contains(list, id) {
		t.Errorf("list: %s", list)
	}
	seen := map[string]string{}
	var clones []string
	for i, flags := range [][]string{{"--port", "7/tcp", "--no-egress"}, {"--block-network"}, {"--port", "7/tcp", "--timeout", "1h"}} {
		name := fmt.Sprintf("e2e-clone-%d", i)
		clone := n.Create(t, append([]string{"--from-checkpoint", "e2e-clones", "--name", name}, flags...)...)
		clones = append(clones, clone)
		all := countedBy(t, n.Node, clone)
		if all[0] < 5 || all[0] > at[len(at)-1]+1 {
			t.Errorf("%s counts from %d, the checkpoint was taken before %d", name, all[0], at[len(at)-1])
		}
		for i := range all {
			if all[i] != all[0]+i {
				t.Fatalf("%s counts %v", name, all)
			}
		}
		got := strings.Fields(n.Brig(t, "exec", clone, "--", "sh", "-c",
			"hostname; cat /etc/hostname; tail -n 1 /etc/hosts | cut -f 2; head -c 16 /dev/urandom | md5sum | cut -c 1-32; date +%s; echo $KEPT"))
		if len(got) != 6 || got[0] != name || got[1] != name || got[2] != name || got[5] != "yes" {
			t.Errorf("%s has %q", name, got)
			continue
		}
		if other, twice := seen[got[3]]; twice {
			t.Errorf("%s and %s read the same random bytes", name, other)
		}
		seen[got[3]] = name
		if now, err := strconv.ParseInt(got[4], 10, 64); err != nil || time.Since(time.Unix(now, 0)).Abs() > 10*time.Second {
			t.Errorf("%s: its clock says %s", name, got[4])
		}
		eventually(t, 20*time.Second, func() error { // execs end: nobody could be told of them
			if left := n.Brig(t, "exec", clone, "--", "sh", "-c", "ps | grep -c '[s]leep 4242'; true"); left != "0\n" {
				return errString(left + " execs of the original run in " + name)
			}
			return nil
		})
		sb := inspected(t, n, clone)
		if other, twice := seen[sb.GetAddress()]; twice {
			t.Errorf("%s and %s have the address %q", name, other, sb.GetAddress())
		}
		seen[sb.GetAddress()] = name
		if sb.GetFromCheckpoint() != "e2e-clones" || sb.GetNetwork().GetBlockNetwork() != (flags[0] == "--block-network") ||
			(sb.GetNetwork().GetCidrAllowlist() != nil) != (len(flags) == 3) {
			t.Errorf("%s: %v", name, sb)
		}
		links := strings.TrimSpace(n.Brig(t, "exec", clone, "--", "sh", "-c", "ip addr | grep -c eth0:; true"))
		if want := map[bool]string{true: "0", false: "1"}[sb.GetAddress() == ""]; links != want {
			t.Errorf("%s has %s links, want %s", name, links, want)
		}
		if sb.GetAddress() != "" {
			dialEcho(t, tunnels(t, n.Node, clone)[0].addr(), nil)
		}
	}
	// A clone's own snapshot, and its own checkpoint.
	n.Brig(t, "snapshot", clones[0], "e2e-of-a-clone")
	n.Brig(t, "checkpoint", "--exit", clones[0], "e2e-again")
	wantEnd(t, n.Node, clones[0], 137, "terminated")
	again := n.Create(t, "--from-checkpoint", "e2e-again")
	if all := countedBy(t, n.Node, again); all[0] <= at[0] {
		t.Errorf("the clone of a clone counts from %d", all[0])
	}
	n.Brig(t, "rm", "--force", id, clones[0], clones[1], clones[2], again)
	n.Brig(t, "checkpoints", "rm", "e2e-again")
	n.Brig(t, "image", "rm", "e2e-of-a-clone")
}

func inspected(t *testing.T, n *fixture, id string) *brigv1.Sandbox {
	t.Helper()
	res, err := n.Sandboxes.Get(t.Context(), connect.NewRequest(&brigv1.GetRequest{Sandbox: id}))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg.GetSandbox()
}

// TestRestoreRefusals: what does not fit is refused, and nothing has run.
func TestRestoreRefusals(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox, "--", "sleep", "1000")
	n.Brig(t, "checkpoint", "--exit", id, "e2e-refused")
	t.Cleanup(func() { n.Try(t, "rm", id); n.Try(t, "checkpoints", "rm", "e2e-refused") })
	if r := n.as(t, nobody, "create", "--from-checkpoint", "e2e-refused"); r.Code == 0 || !strings.Contains(r.Stderr, "there is no checkpoint") {
		t.Errorf("another's: %s", r)
	}
	if r := n.as(t, nobody, "checkpoints", "rm", "e2e-refused"); r.Code == 0 {
		t.Errorf("another's removal: %s", r)
	}
	if r := n.Try(t, "create", "--from-checkpoint", "e2e-refused", "--env", "A=1"); r.Code == 0 || !strings.Contains(r.Stderr, "env cannot be given") {
		t.Errorf("an environment: %s", r)
	}
	dir := filepath.Join(n.Dir, "state/checkpoints/0/e2e-refused")
	for _, path := range []string{dir, filepath.Join(dir, "image"), filepath.Join(dir, "image/pages.img"), filepath.Join(dir, "manifest.json")} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v; want root's alone", path, info.Mode(), err)
		}
	}
	spoil := func(name string, spoil func([]byte) []byte, want string) {
		t.Helper()
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				t.Error(err)
			}
		}()
		if err := os.WriteFile(path, spoil(append([]byte{}, whole...)), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := n.Try(t, "create", "--from-checkpoint", "e2e-refused"); r.Code == 0 || !strings.Contains(r.Stderr, want) {
			t.Errorf("%s: %s; want %q", name, r, want)
		}
	}
	spoil("image/pages.img", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, "the content of pages.img has changed")
	spoil("image/checkpoint.img", func(b []byte) []byte { return b[:len(b)/2] }, "checkpoint.img has")
	edit := func(change func(m map[string]any)) func([]byte) []byte {
		return func(b []byte) []byte {
			var m map[string]any
			if err := json.Unmarshal(b, &m); err != nil {
				t.Fatal(err)
			}
			change(m)
			b, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	spoil("manifest.json", edit(func(m map[string]any) { m["host"].(map[string]any)["runsc"] = "20200101-abc" }), "was taken by runsc 20200101-abc")
	spoil("manifest.json", edit(func(m map[string]any) {
		host := m["host"].(map[string]any)
		host["cpu"] = append(host["cpu"].([]any), "zzz_future")
	}), "a CPU with zzz_future")
	spoil("manifest.json", edit(func(m map[string]any) { m["image_digest"] = "sha256:" + strings.Repeat("0", 64) }), "is another one by now")
	spoil("manifest.json", edit(func(m map[string]any) { m["image"] = "localhost/none:1" }), "is not on this node any more")
	r := n.Try(t, "create", "--from-checkpoint", "e2e-refused") // whole again
	if r.Code != 0 {
		t.Fatal(r)
	}
	n.Brig(t, "rm", "--force", strings.TrimSpace(r.Stdout))
}

// TestPaused stands still, until it is resumed or ended.
func TestPaused(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox, "--", "sh", "-c", "trap 'exit 6' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done")
	countedBy(t, n.Node, id)
	n.Brig(t, "pause", id)
	if got := n.Brig(t, "ls"); !strings.Contains(got, "paused") {
		t.Errorf("list: %s", got)
	}
	var at string
	eventually(t, 10*time.Second, func() error { // what was on its way
		if now := n.Brig(t, "logs", id); now != at {
			at = now
			return errString("it does not stand still")
		}
		return nil
	})
	n.Brig(t, "checkpoint", id, "e2e-paused")
	n.Brig(t, "snapshot", id, "e2e-paused")
	if got := n.Brig(t, "logs", id); got != at || !inspected(t, n, id).GetPaused() {
		t.Errorf("it does not stand still:\n%s", got)
	}
	n.Brig(t, "resume", id)
	eventually(t, 10*time.Second, func() error {
		if n.Brig(t, "logs", id) == at {
			return errString("it stands still")
		}
		return nil
	})
	n.Brig(t, "pause", id)
	n.Brig(t, "rm", id) // SIGTERM, which it has to be awake for
	restored := n.Create(t, "--from-checkpoint", "e2e-paused")
	countedBy(t, n.Node, restored) // it runs, whatever the other was
	n.Brig(t, "pause", restored)
	n.Brig(t, "rm", "--force", restored)
	n.Brig(t, "checkpoints", "rm", "e2e-paused")
	n.Brig(t, "image", "rm", "e2e-paused")
}

// TestRestoredStreams: a program that waits for its stdin when the checkpoint is taken
// gets that of the restored sandbox, on a terminal of the new one's size.
func TestRestoredStreams(t *testing.T) {
	t.Parallel()
	n := use(t)
	res, err := n.Sandboxes.Create(t.Context(), connect.NewRequest(&brigv1.CreateRequest{
		Image: n.busybox, Argv: []string{"sh", "-c", "echo waits; read a; echo got $a; stty size"}, Stdin: true, Tty: true,
		Size: &brigv1.WindowSize{Columns: 80, Rows: 24}, Resources: &brigv1.Resources{Pids: 64, DiskMib: 32, MemoryMib: 256},
	}))
	if err != nil {
		t.Fatal(err)
	}
	id := res.Msg.GetSandbox().GetId()
	t.Cleanup(func() { n.Try(t, "rm", "--force", id) })
	eventually(t, 10*time.Second, func() error {
		if !strings.Contains(n.Brig(t, "logs", id), "waits") {
			return errString("it does not wait")
		}
		return nil
	})
	n.Brig(t, "checkpoint", id, "e2e-streams")
	t.Cleanup(func() { n.Try(t, "checkpoints", "rm", "e2e-streams") })
	res, err = n.Sandboxes.Create(t.Context(), connect.NewRequest(&brigv1.CreateRequest{
		FromCheckpoint: "e2e-streams", Size: &brigv1.WindowSize{Columns: 100, Rows: 40},
	}))
	if err != nil {
		t.Fatal(err)
	}
	restored := res.Msg.GetSandbox()
	t.Cleanup(func() { n.Try(t, "rm", "--force", restored.GetId()) })
	if r := restored.GetResources(); !restored.GetTty() || !restored.GetStdin() || r.GetPids() != 64 || r.GetDiskMib() != 32 || r.GetMemoryMib() != 0 {
		t.Errorf("the restored sandbox: %v", restored)
	}
	for _, s := range []struct{ id, word, size string }{{restored.GetId(), "second", "40 100"}, {id, "first", "24 80"}} {
		if _, err := n.Sandboxes.WriteInput(t.Context(), connect.NewRequest(&brigv1.WriteInputRequest{Sandbox: s.id, Data: []byte(s.word + "\n")})); err != nil {
			t.Fatal(err)
		}
		wantEnd(t, n.Node, s.id, 0, "exited")
		if got := n.Brig(t, "logs", s.id); !strings.Contains(got, "got "+s.word) || !strings.Contains(got, s.size) {
			t.Errorf("%s: %q", s.id, got)
		}
	}
}
