package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	brigv1 "brig/nodeagent/api/brig/v1"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// TestSemantics has the rows of the table of semantics that one sandbox shows by itself.
// tests/README.md says which test has which row.
func TestSemantics(t *testing.T) {
	n := use(t)
	for name, row := range map[string]func(*testing.T, *fixture){
		"block_network with any allowlist":             blockWithLists,
		"block_network with ports":                     blockWithPorts,
		"malformed CIDR":                               malformedCIDR,
		"private or metadata range in a tenant's list": privateRange,
		"idle_timeout":                                 idleTimeout,
		"exit code":                                    exitCodes,
		"exec":                                         execRow,
		"tags":                                         tags,
		"argv":                                         argv,
		"cpu and memory":                               requests,
		"gpu":                                          gpu,
		"pids":                                         pids,
		"disk":                                         disk,
		"secrets":                                      secretsRow,
		"tmpfs":                                        tmpfs,
		"ready":                                        ready,
		"every field is honoured or refused":           everyField,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row(t, n)
		})
	}
}

// refused wants an error of a class that says text, and nothing made.
func refused(t *testing.T, n *fixture, r *brigv1.CreateRequest, code connect.Code, text string) {
	t.Helper()
	if r.GetImage() == "" && r.GetFromCheckpoint() == "" {
		r.Image = n.busybox
	}
	res, err := n.Sandboxes.Create(t.Context(), connect.NewRequest(r))
	if err == nil {
		n.Try(t, "rm", "--force", res.Msg.GetSandbox().GetId())
	}
	if connect.CodeOf(err) != code || !strings.Contains(err.Error(), text) {
		t.Errorf("%v\nis answered by %v; want %v with %q", r, err, code, text)
	}
}

func blockWithLists(t *testing.T, n *fixture) {
	for field, p := range map[string]*brigv1.NetworkPolicy{
		"cidr_allowlist":         {CidrAllowlist: &brigv1.CidrList{Cidrs: []string{"203.0.113.0/24"}}},
		"inbound_cidr_allowlist": {InboundCidrAllowlist: &brigv1.CidrList{}},
		"domain_allowlist":       {DomainAllowlist: &brigv1.DomainList{Domains: []string{"example.com"}}},
	} {
		p.BlockNetwork = true
		refused(t, n, &brigv1.CreateRequest{Network: p}, connect.CodeInvalidArgument, field+" cannot be used when block_network is enabled")
	}
}

func blockWithPorts(t *testing.T, n *fixture) {
	refused(t, n, &brigv1.CreateRequest{Network: &brigv1.NetworkPolicy{BlockNetwork: true}, Ports: []*brigv1.Port{{SandboxPort: 80}}},
		connect.CodeInvalidArgument, "Cannot specify open ports when block_network is enabled; use an empty cidr_allowlist")
}

func listOf(cidrs ...string) *brigv1.NetworkPolicy {
	return &brigv1.NetworkPolicy{CidrAllowlist: &brigv1.CidrList{Cidrs: cidrs}}
}

func malformedCIDR(t *testing.T, n *fixture) {
	refused(t, n, &brigv1.CreateRequest{Network: listOf("not-an-ip/8")}, connect.CodeInvalidArgument, "Invalid CIDR: not-an-ip/8")
	refused(t, n, &brigv1.CreateRequest{Network: listOf("203.0.113.1/24")}, connect.CodeInvalidArgument, "203.0.113.0/24")
}

func privateRange(t *testing.T, n *fixture) {
	for _, cidr := range []string{"10.0.0.0/8", "192.168.1.0/24", "169.254.169.254/32", "100.64.0.0/10", "127.0.0.1/32"} {
		refused(t, n, &brigv1.CreateRequest{Network: listOf(cidr)}, connect.CodeInvalidArgument, cidr)
	}
}

// idleTimeout: an exec keeps a sandbox awake; the rest of its time it is idle.
func idleTimeout(t *testing.T, n *fixture) {
	id := n.Create(t, "--idle-timeout", "1s", n.busybox)
	begun := time.Now()
	n.Brig(t, "exec", id, "--", "sleep", "2")
	wantEnd(t, n.Node, id, 124, "idle_timeout")
	if took := time.Since(begun); took < 3*time.Second {
		t.Errorf("it ended %v after an exec of 2 s began", took)
	}
	refused(t, n, &brigv1.CreateRequest{IdleTimeout: durationpb.New(time.Millisecond)}, connect.CodeInvalidArgument, "idle_timeout")
}

// exitCodes: each reason, provoked. Those that need a brigd that dies have a node of their
// own: lost and runtime_crash in TestNodeWithLimits, start_failed in TestUnknownProgram.
func exitCodes(t *testing.T, n *fixture) {
	for _, tc := range []struct {
		script string
		flags  []string
		code   int
		reason string
	}{
		{"exit 7", nil, 7, "exited"},
		{"kill -TERM $$", nil, 143, "signal"},
		{"kill -KILL $$", nil, 137, "signal"},
		{"sleep 60", []string{"--timeout", "1s"}, 124, "timeout"},
		{"sleep 60", []string{"--idle-timeout", "1s"}, 124, "idle_timeout"},
	} {
		id := n.Create(t, append(append([]string{"--block-network"}, tc.flags...), n.busybox, "--", "sh", "-c", tc.script)...)
		wantEnd(t, n.Node, id, tc.code, tc.reason)
	}
	// Whether it obeyed, or had to be killed, it was terminated.
	for _, script := range []string{"trap 'exit 0' TERM; while :; do sleep 0.1; done", "trap '' TERM; while :; do sleep 0.1; done"} {
		id := n.Create(t, "--block-network", n.busybox, "--", "sh", "-c", script)
		r, err := n.Sandboxes.Terminate(t.Context(), connect.NewRequest(&brigv1.TerminateRequest{Sandbox: id, Grace: durationpb.New(500 * time.Millisecond)}))
		if err != nil || r.Msg.GetExit().GetCode() != 137 || r.Msg.GetExit().GetReason() != brigv1.Reason_REASON_TERMINATED {
			t.Errorf("%s: %v, %v", script, r, err)
		}
	}
	id := n.Create(t, "--block-network", n.busybox)
	r, err := n.Exec.Run(t.Context(), connect.NewRequest(&brigv1.ExecRunRequest{Exec: &brigv1.ExecSpec{
		Sandbox: id, Argv: []string{"sleep", "60"}, Timeout: durationpb.New(500 * time.Millisecond),
	}}))
	if err != nil || r.Msg.GetExit().GetCode() != 124 || r.Msg.GetExit().GetReason() != brigv1.Reason_REASON_EXEC_TIMEOUT {
		t.Errorf("exec with a timeout: %v, %v", r, err)
	}
}

func execRow(t *testing.T, n *fixture) {
	id := n.Create(t, "--workdir", "/etc", "--env", "A=sandbox", n.busybox)
	run := func(spec *brigv1.ExecSpec) string {
		t.Helper()
		spec.Sandbox = id
		r, err := n.Exec.Run(t.Context(), connect.NewRequest(&brigv1.ExecRunRequest{Exec: spec}))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s%s%d", r.Msg.GetStdout(), r.Msg.GetStderr(), r.Msg.GetExit().GetCode())
	}
	for want, spec := range map[string]*brigv1.ExecSpec{
		"$HOME *\n0":      {Argv: []string{"echo", "$HOME", "*"}}, // argv, and no shell
		"/etc\n0":         {Argv: []string{"pwd"}},
		"/tmp\n0":         {Argv: []string{"pwd"}, Workdir: "/tmp"},
		"sandbox exec\n0": {Argv: []string{"sh", "-c", "echo $A $B"}, Env: map[string]string{"B": "exec"}},
		"3":               {Argv: []string{"sh", "-c", "exit 3"}},
	} {
		if got := run(spec); got != want {
			t.Errorf("%v: %q, want %q", spec, got, want)
		}
	}
	_, err := n.Exec.Run(t.Context(), connect.NewRequest(&brigv1.ExecRunRequest{Exec: &brigv1.ExecSpec{Sandbox: id}}))
	if connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("an exec of nothing: %v", err)
	}
}

func tags(t *testing.T, n *fixture) {
	a := n.Create(t, "--block-network", "--tag", "row=tags", "--tag", "k=a", n.busybox)
	b := n.Create(t, "--block-network", "--tag", "row=tags", "--tag", "k=", n.busybox)
	ids := func(args ...string) string {
		var list []struct{ ID string }
		if err := json.Unmarshal([]byte(n.Brig(t, append([]string{"ls", "--json"}, args...)...)), &list); err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, s := range list {
			found = append(found, s.ID)
		}
		return strings.Join(found, " ")
	}
	for want, args := range map[string][]string{
		a + " " + b: {"--tag", "row=tags"},
		a:           {"--tag", "row=tags", "--tag", "k=a"},
		b:           {"--tag", "row=tags", "--tag", "k="},
		"":          {"--tag", "row=tags", "--tag", "k=c"},
	} {
		if got := ids(args...); got != want {
			t.Errorf("%v: %q, want %q", args, got, want)
		}
	}
}

func argv(t *testing.T, n *fixture) {
	refused(t, n, &brigv1.CreateRequest{Argv: []string{"echo", strings.Repeat("x", 64<<10)}}, connect.CodeInvalidArgument, "65536")
	// Without a program it idles; flags of brig's own and shells' signs are arguments.
	idle := n.Create(t, "--block-network", n.busybox)
	if got := n.Brig(t, "exec", idle, "--", "echo", "--help", "$(id)", ";", "a\nb"); got != "--help $(id) ; a\nb\n" {
		t.Errorf("echo: %q", got)
	}
	r := n.Try(t, "run", "--block-network", n.busybox, "--", "sh", "-c", `printf '%s|' "$@"`, "x", "", "-rf", "..", "ü")
	if r.Stdout != "|-rf|..|ü|" {
		t.Error(r)
	}
}

// requests: what the kernel has. TestLimits has the limits.
func requests(t *testing.T, n *fixture) {
	id := n.Create(t, "--block-network", "--cpu-request", "0.5", "--memory-request", "64", "--memory", "128", n.busybox)
	if got := cgroupFile(t, n.Node, id, "cpu", "cpu.shares", "cpu.weight"); got != "512" && got != "20" {
		t.Errorf("cpu shares %s, want 512, which are a weight of 20", got)
	}
	if got := cgroupFile(t, n.Node, id, "memory", "memory.soft_limit_in_bytes", "memory.low"); got != strconv.Itoa(64<<20) {
		t.Errorf("memory that is kept for it: %s, want 64 MiB", got)
	}
	refused(t, n, &brigv1.CreateRequest{Resources: &brigv1.Resources{Cpu: 1, CpuRequest: 2}}, connect.CodeInvalidArgument, "cpu_request")
	refused(t, n, &brigv1.CreateRequest{Resources: &brigv1.Resources{MemoryMib: 64, MemoryRequestMib: 65}}, connect.CodeInvalidArgument, "memory_request_mib")
}

// gpu: a count, an index, a UUID or a CDI name; TestGPUs has a node that knows of some. Here
// each is refused by name with the reason, unless the machine has NVIDIA's driver.
func gpu(t *testing.T, n *fixture) {
	if _, err := os.Stat("/proc/driver/nvidia/version"); err == nil {
		t.Skip("this machine has NVIDIA's driver: the row is for those without")
	}
	for _, name := range []string{"1", "device=0", "GPU-00000000-0000-4000-8000-000000000000", "nvidia.com/gpu=0"} {
		r := n.Try(t, "create", "--gpu", name, n.busybox)
		if r.Code == 0 || !strings.Contains(r.Stderr, "this node has no GPUs: there is no NVIDIA driver") {
			t.Error(r)
		}
	}
	refused(t, n, &brigv1.CreateRequest{Gpu: &brigv1.GPURequest{Count: 1}}, connect.CodeFailedPrecondition, "this node has no GPUs")
	refused(t, n, &brigv1.CreateRequest{Gpu: &brigv1.GPURequest{}}, connect.CodeInvalidArgument, "gpu asks for none")
	refused(t, n, &brigv1.CreateRequest{Gpu: &brigv1.GPURequest{Devices: []string{"MIG-x"}}}, connect.CodeInvalidArgument, "MIG")
}

// pids: a fork bomb is told that there is no more, and the sandbox goes on.
func pids(t *testing.T, n *fixture) {
	id := n.Create(t, "--block-network", "--pids", "16", n.python)
	const bomb = `
import os, time
made = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
        made += 1
except OSError as e:
    print(e.strerror, made, flush=True)
    os.killpg(0, 9)
`
	r := n.Try(t, "exec", id, "--", "python3", "-c", "import os; os.setpgrp()\n"+bomb)
	// The program that idles has threads, too.
	var made int
	if _, err := fmt.Sscanf(r.Stdout, "Resource temporarily unavailable %d\n", &made); err != nil || made < 1 || made > 14 {
		t.Errorf("%d and the rest are 16: %s", made, r)
	}
	least := n.Create(t, "--block-network", "--pids", "8", n.busybox)
	for range 3 {
		if got := n.Brig(t, "exec", least, "--", "sh", "-c", "echo here"); got != "here\n" {
			t.Errorf("with the least: %q", got)
		}
	}
	if got := n.Brig(t, "exec", id, "--", "sh", "-c", "ulimit -u"); got != "16\n" {
		t.Errorf("the limit inside: %q", got)
	}
	if got := n.Brig(t, "exec", id, "--", "echo", "here"); got != "here\n" {
		t.Errorf("after a fork bomb: %q", got)
	}
}

// disk: what is beyond the quota fails, and what is removed may be written again.
func disk(t *testing.T, n *fixture) {
	id := n.Create(t, "--block-network", "--disk", "16", n.busybox)
	fill := []string{"exec", id, "--", "dd", "if=/dev/zero", "of=/fill", "bs=1M", "count=64"}
	if r := n.Try(t, fill...); r.Code == 0 || !strings.Contains(r.Stderr, "No space left on device") {
		t.Error(r)
	}
	if got := n.Brig(t, "exec", id, "--", "stat", "-c", "%s", "/fill"); got != strconv.Itoa(16<<20)+"\n" {
		t.Errorf("written were %s bytes, want 16 MiB", strings.TrimSpace(got))
	}
	n.Brig(t, "exec", id, "--", "sh", "-c", "rm /fill && dd if=/dev/zero of=/again bs=1M count=8")
}

// secretsRow: the programs have them, and nothing else does.
func secretsRow(t *testing.T, n *fixture) {
	const secret = "hush-4f0c1d2b"
	id := n.Create(t, "--block-network", "--secret", "TOKEN="+secret, n.busybox, "--", "sh", "-c", `[ -n "$TOKEN" ] && echo "has ${#TOKEN}"; sleep 60`)
	eventually(t, 10*time.Second, func() error {
		if logs := n.Brig(t, "logs", id); logs != fmt.Sprintf("has %d\n", len(secret)) {
			return fmt.Errorf("logs: %q", logs)
		}
		return nil
	})
	if got := n.Brig(t, "exec", id, "--", "sh", "-c", "echo $TOKEN"); got != secret+"\n" {
		t.Errorf("an exec has %q", got)
	}
	inspected := n.Brig(t, "inspect", id)
	if !strings.Contains(inspected, `"TOKEN"`) {
		t.Errorf("inspect does not name it: %s", inspected)
	}
	for what, text := range map[string]string{
		"inspect": inspected, "ls": n.Brig(t, "ls", "--json"), "brigd's log": n.Log(1 << 20), "ps": processes(t),
	} {
		if strings.Contains(text, secret) {
			t.Errorf("%s tells the secret", what)
		}
	}
	c, err := n.Config()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{c.StateDir, c.SecretsDir(), c.JournalDir(id)} {
		for _, file := range filesWith(t, dir, secret) {
			t.Errorf("%s has the secret", file)
		}
	}
	refused(t, n, &brigv1.CreateRequest{Env: map[string]string{"A": "1"}, Secrets: map[string]string{"A": "2"}}, connect.CodeInvalidArgument, "both in env and in secrets")
}

// processes is every argument of every process.
func processes(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, f := range files {
		data, _ := os.ReadFile(f) // it may have ended
		if !bytes.Contains(data, []byte("/bin/brig\x00")) {
			all = append(all, data...)
		}
	}
	return string(all)
}

// filesWith lists the files that hold text. What cannot be read, because it has gone, holds
// none.
func filesWith(t *testing.T, dir, text string) (found []string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() && info.Size() < 64<<20 {
			data, _ := os.ReadFile(path)
			if bytes.Contains(data, []byte(text)) {
				found = append(found, path)
			}
		}
		return nil
	})
	return found
}

func tmpfs(t *testing.T, n *fixture) {
	id := n.Create(t, "--block-network", "--tmpfs", "/scratch:4", "--tmpfs", "/scratch/inner", "--tmpfs", "/new/deep", n.busybox)
	got := n.Brig(t, "exec", id, "--", "sh", "-c",
		"echo x > /new/deep/f; echo x > /scratch/inner/f; dd if=/dev/zero of=/scratch/f bs=1M count=8 2>&1 | grep -o 'No space left on device'; stat -c %s /scratch/f")
	if want := fmt.Sprintf("No space left on device\n%d\n", 4<<20); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func ready(t *testing.T, n *fixture) {
	const server = "import socket, time\ntime.sleep(1)\ns = socket.create_server(('', 80))\nwhile True: s.accept()[0].close()"
	n.Create(t, "--no-egress", "--ready", "tcp:80", n.python, "--", "python3", "-c", server)
	id := n.Create(t, "--block-network", "--ready", "exec:test -e /up", n.busybox, "--", "sh", "-c", "sleep 1; touch /up; sleep 60")
	if got := n.Brig(t, "exec", id, "--", "ls", "/up"); got != "/up\n" {
		t.Errorf("it was not ready: %q", got)
	}
	probe := func(argv ...string) *brigv1.ReadyProbe {
		return &brigv1.ReadyProbe{Probe: &brigv1.ReadyProbe_Exec{Exec: &brigv1.ExecProbe{Argv: argv}}, Timeout: durationpb.New(time.Second)}
	}
	refused(t, n, &brigv1.CreateRequest{Tags: map[string]string{"row": "ready"}, Ready: probe("sh", "-c", "echo not yet >&2; exit 3")},
		connect.CodeFailedPrecondition, `exits with 3: "not yet"`)
	refused(t, n, &brigv1.CreateRequest{Tags: map[string]string{"row": "ready"}, Argv: []string{"sh", "-c", "exit 4"}, Ready: probe("false")},
		connect.CodeFailedPrecondition, "ended with status 4 before it was ready")
	if left := n.Brig(t, "ls", "--all", "--json", "--tag", "row=ready"); strings.TrimSpace(left) != "[]" {
		t.Errorf("left: %s", left)
	}
}

// everyField sends each field of a create once with a value that brigd honours, and looks
// for it in the answer or in the sandbox; the other rows refuse the bad ones.
func everyField(t *testing.T, n *fixture) {
	r := &brigv1.CreateRequest{
		RequestId: "every-field", Name: "every.field", Image: n.busybox, Argv: []string{"sh", "-c", "cat > /in; sleep 60"},
		Env: map[string]string{"A": "1"}, Workdir: "/tmp", Tags: map[string]string{"row": "every"},
		Resources: &brigv1.Resources{Cpu: 1, MemoryMib: 128, CpuRequest: 0.1, MemoryRequestMib: 32, Pids: 64, DiskMib: 64},
		Network:   &brigv1.NetworkPolicy{CidrAllowlist: &brigv1.CidrList{}, InboundCidrAllowlist: &brigv1.CidrList{}, Dns: "resolver"},
		Ports:     []*brigv1.Port{{SandboxPort: 80, Kind: brigv1.TunnelKind_TUNNEL_KIND_TCP}},
		Timeout:   durationpb.New(time.Minute), IdleTimeout: durationpb.New(time.Minute),
		Ready:    &brigv1.ReadyProbe{Probe: &brigv1.ReadyProbe_Exec{Exec: &brigv1.ExecProbe{Argv: []string{"true"}}}, Interval: durationpb.New(50 * time.Millisecond)},
		Mounts:   []*brigv1.Mount{{Target: "/scratch", Source: &brigv1.Mount_Tmpfs{Tmpfs: &brigv1.TmpfsMount{SizeMib: 4}}}},
		Secrets:  map[string]string{"S": "2"},
		Overflow: brigv1.Overflow_OVERFLOW_DROP_OLDEST,
	}
	fields := r.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		// These are tried where a terminal, an input, a checkpoint and GPUs are.
		elsewhere := map[string]bool{"stdin": true, "tty": true, "size": true, "from_checkpoint": true, "gpu": true}
		if !r.ProtoReflect().Has(f) && !elsewhere[string(f.Name())] {
			t.Errorf("field %s is tried nowhere: add it here and to a row", f.Name())
		}
	}
	res, err := n.Sandboxes.Create(t.Context(), connect.NewRequest(r))
	if err != nil {
		t.Fatal(err)
	}
	sb := res.Msg.GetSandbox()
	t.Cleanup(func() { n.Try(t, "rm", "--force", sb.GetId()) })
	got := fmt.Sprint(sb.GetName(), sb.GetImage(), sb.GetArgv(), sb.GetTags(), sb.GetResources(), sb.GetNetwork(), sb.GetTunnels()[0].GetSandboxPort(),
		sb.GetIdleTimeout(), sb.GetMounts(), sb.GetSecrets(), sb.GetDeadline().AsTime().Sub(sb.GetCreatedAt().AsTime()).Round(time.Minute))
	want := fmt.Sprint(r.GetName(), r.GetImage(), r.GetArgv(), r.GetTags(), r.GetResources(), r.GetNetwork(), 80,
		r.GetIdleTimeout(), r.GetMounts(), []string{"S"}, time.Minute)
	if got != want {
		t.Errorf("the answer has\n%s\nwant\n%s", got, want)
	}
	if env := n.Brig(t, "exec", sb.GetId(), "--", "sh", "-c", "echo $A $S $PWD; hostname"); env != "1 2 /tmp\nevery.field\n" {
		t.Errorf("inside: %q", env)
	}
}
