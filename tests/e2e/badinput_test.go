package e2e

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/tests/census"
	"brig/tests/node"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"
)

// TestBadInput: every refusal is typed, is one line that names what is wrong, and
// leaves nothing on the node, in containerd or in the list.
func TestBadInput(t *testing.T) {
	n := use(t)
	before := holdings(t, n)

	busybox := n.busybox
	cidr := func(list ...string) *brigv1.NetworkPolicy {
		return &brigv1.NetworkPolicy{CidrAllowlist: &brigv1.CidrList{Cidrs: list}}
	}
	for _, tc := range []struct {
		name string
		req  *brigv1.CreateRequest
		code connect.Code
		want string
	}{
		{"malformed CIDR", &brigv1.CreateRequest{Network: cidr("not-an-ip/8")}, connect.CodeInvalidArgument, "Invalid CIDR: not-an-ip/8"},
		{"host bits", &brigv1.CreateRequest{Network: cidr("203.0.113.7/24")}, connect.CodeInvalidArgument, "203.0.113.0/24"},
		{"private range", &brigv1.CreateRequest{Network: cidr("10.0.0.0/8")}, connect.CodeInvalidArgument, "10.0.0.0/8"},
		{"metadata range", &brigv1.CreateRequest{Network: cidr("169.254.169.254/32")}, connect.CodeInvalidArgument, "169.254.169.254/32"},
		{"malformed inbound", &brigv1.CreateRequest{Network: &brigv1.NetworkPolicy{InboundCidrAllowlist: &brigv1.CidrList{Cidrs: []string{"x"}}}},
			connect.CodeInvalidArgument, "Invalid CIDR: x"},
		{"block with ports", &brigv1.CreateRequest{Network: &brigv1.NetworkPolicy{BlockNetwork: true}, Ports: []*brigv1.Port{{SandboxPort: 80}}},
			connect.CodeInvalidArgument, "Cannot specify open ports when block_network is enabled; use an empty cidr_allowlist"},
		{"block with a list", &brigv1.CreateRequest{Network: &brigv1.NetworkPolicy{BlockNetwork: true, CidrAllowlist: &brigv1.CidrList{}}},
			connect.CodeInvalidArgument, "cannot be used when block_network is enabled"},
		{"block with inbound", &brigv1.CreateRequest{Network: &brigv1.NetworkPolicy{BlockNetwork: true, InboundCidrAllowlist: &brigv1.CidrList{}}},
			connect.CodeInvalidArgument, "cannot be used when block_network is enabled"},
		{"no image", &brigv1.CreateRequest{Image: "-"}, connect.CodeInvalidArgument, "image"},
		{"unknown image", &brigv1.CreateRequest{Image: strings.Replace(busybox, "busybox", "nobody", 1)}, connect.CodeNotFound, "brig/nobody:1"},
		{"malformed image", &brigv1.CreateRequest{Image: "no such image"}, connect.CodeInvalidArgument, "no such image"},
		{"relative workdir", &brigv1.CreateRequest{Workdir: "tmp"}, connect.CodeInvalidArgument, `tmp`},
		{"port 0", &brigv1.CreateRequest{Ports: []*brigv1.Port{{SandboxPort: 0}}}, connect.CodeInvalidArgument, "port 0"},
		{"port 70000", &brigv1.CreateRequest{Ports: []*brigv1.Port{{SandboxPort: 70000}}}, connect.CodeInvalidArgument, "70000"},
		{"unknown kind", &brigv1.CreateRequest{Ports: []*brigv1.Port{{SandboxPort: 80, Kind: 9}}}, connect.CodeInvalidArgument, "kind"},
		{"bad name", &brigv1.CreateRequest{Name: "a b"}, connect.CodeInvalidArgument, `"a b"`},
		{"name like an id", &brigv1.CreateRequest{Name: "sb-aaaaaaaaaaaaaaaa"}, connect.CodeInvalidArgument, "sb-aaaaaaaaaaaaaaaa"},
		{"bad request id", &brigv1.CreateRequest{RequestId: strings.Repeat("x", 129)}, connect.CodeInvalidArgument, "request_id"},
		{"negative cpu", &brigv1.CreateRequest{Resources: &brigv1.Resources{Cpu: -1}}, connect.CodeInvalidArgument, "cpu"},
		{"little memory", &brigv1.CreateRequest{Resources: &brigv1.Resources{MemoryMib: 1}}, connect.CodeInvalidArgument, "memory"},
		{"much argv", &brigv1.CreateRequest{Argv: []string{strings.Repeat("x", 65<<10)}}, connect.CodeInvalidArgument, "65536"},
		{"empty program", &brigv1.CreateRequest{Argv: []string{""}}, connect.CodeInvalidArgument, "argv"},
		{"NUL in argv", &brigv1.CreateRequest{Argv: []string{"echo", "a\x00b"}}, connect.CodeInvalidArgument, "argv"},
		{"bad env", &brigv1.CreateRequest{Env: map[string]string{"A=B": "c"}}, connect.CodeInvalidArgument, "A=B"},
	} {
		switch tc.req.Image {
		case "":
			tc.req.Image = busybox
		case "-":
			tc.req.Image = ""
		}
		_, err := n.Sandboxes.Create(t.Context(), connect.NewRequest(tc.req))
		wantError(t, tc.name, err, tc.code, tc.want)
	}

	if _, err := n.Sandboxes.Create(t.Context(), connect.NewRequest(&brigv1.CreateRequest{
		Image: busybox, Argv: []string{"/no/such/program"}, Ports: []*brigv1.Port{{SandboxPort: 80}},
	})); err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("a program that is not there: %v", err)
	}

	for _, tc := range []struct {
		name string
		call func(context.Context) error
		code connect.Code
		want string
	}{
		{"unknown id", func(ctx context.Context) error {
			_, err := n.Sandboxes.Get(ctx, connect.NewRequest(&brigv1.GetRequest{Sandbox: "sb-aaaaaaaaaaaaaaaa"}))
			return err
		}, connect.CodeNotFound, "sb-aaaaaaaaaaaaaaaa"},
		{"no id", func(ctx context.Context) error {
			_, err := n.Sandboxes.Wait(ctx, connect.NewRequest(&brigv1.WaitRequest{}))
			return err
		}, connect.CodeInvalidArgument, "sandbox"},
		{"path as id", func(ctx context.Context) error {
			_, err := n.Sandboxes.Remove(ctx, connect.NewRequest(&brigv1.RemoveRequest{Sandbox: "../../etc", Force: true}))
			return err
		}, connect.CodeNotFound, ""},
		{"exec in nobody", func(ctx context.Context) error {
			_, err := n.Exec.Run(ctx, connect.NewRequest(&brigv1.ExecRunRequest{Exec: &brigv1.ExecSpec{Sandbox: "nobody", Argv: []string{"true"}}}))
			return err
		}, connect.CodeNotFound, "nobody"},
		{"tunnels of nobody", func(ctx context.Context) error {
			_, err := n.Tunnels.List(ctx, connect.NewRequest(&brigv1.TunnelsListRequest{Sandbox: "nobody"}))
			return err
		}, connect.CodeNotFound, "nobody"},
		{"image that is not there", func(ctx context.Context) error {
			_, err := n.Images.Remove(ctx, connect.NewRequest(&brigv1.ImagesRemoveRequest{Image: "localhost/none:1"}))
			return err
		}, connect.CodeNotFound, "localhost/none:1"},
	} {
		wantError(t, tc.name, tc.call(t.Context()), tc.code, tc.want)
	}
	unchanged(t, n, before)
}

// TestBadInputToRunning does the same to a sandbox that runs and goes on.
func TestBadInputToRunning(t *testing.T) {
	n := use(t)
	id := n.Create(t, n.busybox)
	open := n.Create(t, "--block-network", n.busybox)
	before := holdings(t, n)
	run := func(spec *brigv1.ExecSpec) error {
		spec.Sandbox = id
		_, err := n.Exec.Run(t.Context(), connect.NewRequest(&brigv1.ExecRunRequest{Exec: spec}))
		return err
	}
	wantError(t, "empty exec argv", run(&brigv1.ExecSpec{}), connect.CodeInvalidArgument, "argv")
	wantError(t, "relative exec workdir", run(&brigv1.ExecSpec{Argv: []string{"true"}, Workdir: "tmp"}), connect.CodeInvalidArgument, "tmp")
	_, err := n.Exec.Run(t.Context(), connect.NewRequest(&brigv1.ExecRunRequest{
		Exec: &brigv1.ExecSpec{Sandbox: id, Argv: []string{"true"}}, MaxOutput: 17 << 20}))
	wantError(t, "too much output", err, connect.CodeInvalidArgument, "max_output")
	for sandbox, port := range map[string]uint32{id: 70000, open: 80} {
		_, err := n.Tunnels.Open(t.Context(), connect.NewRequest(&brigv1.TunnelsOpenRequest{Sandbox: sandbox, Port: &brigv1.Port{SandboxPort: port}}))
		if code := connect.CodeOf(err); code != connect.CodeInvalidArgument && code != connect.CodeFailedPrecondition {
			t.Errorf("tunnel to port %d: %v", port, err)
		}
	}
	_, err = n.Tunnels.Close(t.Context(), connect.NewRequest(&brigv1.TunnelsCloseRequest{Sandbox: id, Port: &brigv1.Port{SandboxPort: 80}}))
	wantError(t, "tunnel that is not there", err, connect.CodeNotFound, "80")
	_, err = n.Sandboxes.Remove(t.Context(), connect.NewRequest(&brigv1.RemoveRequest{Sandbox: id}))
	wantError(t, "remove while it runs", err, connect.CodeFailedPrecondition, "force")
	if out := n.Brig(t, "exec", id, "--", "echo", "fine"); out != "fine\n" {
		t.Errorf("the sandbox after that: %q", out)
	}
	unchanged(t, n, before)
}

// TestUnknownField is refused by name, in JSON and in protobuf.
func TestUnknownField(t *testing.T) {
	n := use(t)
	before := holdings(t, n)
	for method, body := range map[string]string{
		"Sandboxes/Create": `{"image": "` + n.busybox + `", "gpus": 1}`,
		"Exec/Run":         `{"exec": {"sandbox": "x", "argv": ["true"], "shell": true}}`,
		"Node/Info":        `{"verbose": true}`,
	} {
		status, answer := post(t, n.Node, method, body)
		field := strings.Split(body, `"`)[len(strings.Split(body, `"`))-2]
		message, _ := answer["message"].(string)
		if status != http.StatusBadRequest || answer["code"] != "invalid_argument" || !strings.Contains(message, field) {
			t.Errorf("%s %s: %d %v", method, body, status, answer)
		}
	}
	req := &brigv1.CreateRequest{Image: n.busybox}
	req.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 1))
	_, err := n.Sandboxes.Create(t.Context(), connect.NewRequest(req))
	wantError(t, "unknown field 999", err, connect.CodeInvalidArgument, "999")
	nested := &brigv1.CreateRequest{Image: n.busybox, Network: &brigv1.NetworkPolicy{}}
	nested.Network.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 998, protowire.VarintType), 1))
	_, err = n.GRPC().Sandboxes.Create(t.Context(), connect.NewRequest(nested))
	wantError(t, "unknown nested field", err, connect.CodeInvalidArgument, "998")
	unchanged(t, n, before)
}

// TestUnknownConfigKey stops brigd before it makes anything.
func TestUnknownConfigKey(t *testing.T) {
	n := use(t) // for the requirement; the node under test is another
	before, err := census.Take()
	if err != nil {
		t.Fatal(err)
	}
	for overrides, want := range map[string]string{
		"nodes = \"n1\"\n":                      `unknown key "nodes"`,
		"[network]\nallow-private = []\n":       `network.allow-private`,
		"[network]\npool = \"10.90.0.1/16\"\n":  `network.pool "10.90.0.1/16"`,
		"[sandboxes]\ntimeout = \"tomorrow\"\n": "tomorrow",
	} {
		bad, err := node.New(node.Options{Overrides: overrides})
		if err != nil {
			t.Fatal(err)
		}
		if err := bad.Start(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: want an error that contains %q, got %v", overrides, want, err)
		}
		if err := bad.Stop(); err != nil {
			t.Error(err)
		}
	}
	if diff, err := census.Settle(t.Context(), before, census.Patience); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	n.Brig(t, "ls")
}

// TestCommandLineErrors: one line that says what to do, a wrong invocation's
// followed by where to read more; a status, and nothing on stdout.
func TestCommandLineErrors(t *testing.T) {
	t.Parallel()
	n := use(t)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"create", "--cidr-allow", "not-an-ip/8", n.busybox}, "Invalid CIDR: not-an-ip/8"},
		{[]string{"create", "--block-network", "--port", "80", n.busybox}, "Cannot specify open ports when block_network is enabled"},
		{[]string{"create", "--port", "70000", n.busybox}, "70000"},
		{[]string{"create", "--port", "0", n.busybox}, "0"},
		{[]string{"create", "--port", "80/udp", n.busybox}, "8080/tcp"},
		{[]string{"create", "--workdir", "tmp", n.busybox}, "tmp"},
		{[]string{"create", "--colour", n.busybox}, "--colour"},
		{[]string{"create"}, "IMAGE"},
		{[]string{"exec", "nobody", "--", "true"}, "nobody"},
		{[]string{"exec", "nobody"}, "program"},
		{[]string{"rm", "nobody"}, "nobody"},
		{[]string{"frobnicate"}, "frobnicate"},
		{[]string{"--socket", "/nonexistent/brig.sock", "ls"}, "/nonexistent/brig.sock"},
	} {
		r := n.Try(t, tc.args...)
		message, hint, _ := strings.Cut(r.Stderr, "\n")
		oneLine := strings.HasPrefix(message, "brig: ") && (hint == "" || strings.HasPrefix(hint, "try: ") && strings.Count(hint, "\n") == 1)
		if r.Code <= 0 || r.Stdout != "" || !oneLine || !strings.Contains(r.Stderr, tc.want) {
			t.Errorf("want one line on stderr with %q and a status: %s", tc.want, r)
		}
	}
}

func wantError(t *testing.T, name string, err error, code connect.Code, want string) {
	t.Helper()
	var e *connect.Error
	if !errors.As(err, &e) {
		t.Errorf("%s: %v, want %v with %q", name, err, code, want)
		return
	}
	if e.Code() != code || !strings.Contains(e.Message(), want) || strings.Contains(e.Message(), "\n") {
		t.Errorf("%s: %v, want %v and one line with %q", name, err, code, want)
	}
}

// holding is what a node and the machine hold.
type holding struct {
	machine    census.Census
	containerd string
	list       string
}

// holdings takes it, after one sandbox has come and gone: its image, and what a
// node makes for its first sandbox and keeps, are no leftovers.
func holdings(t *testing.T, f *fixture) holding {
	t.Helper()
	f.Brig(t, "run", f.busybox, "--", "true")
	machine, err := census.Take()
	if err != nil {
		t.Fatal(err)
	}
	return holding{machine: machine, containerd: containerdObjects(t, f.Node), list: f.Brig(t, "ls", "--all", "--json")}
}

func containerdObjects(t *testing.T, n *node.Node) string {
	t.Helper()
	var all strings.Builder
	for _, what := range [][]string{{"containers", "ls", "-q"}, {"tasks", "ls", "-q"}, {"snapshots", "ls"}, {"leases", "ls", "-q"}} {
		r := n.Ctr(t, "brig", what...)
		if r.Code != 0 {
			t.Fatal(r)
		}
		lines := slices.Sorted(strings.Lines(r.Stdout))
		all.WriteString(strings.Join(what, " ") + ":\n" + strings.Join(lines, ""))
	}
	return all.String()
}

// unchanged compares with before, leaving the kernel time to settle.
func unchanged(t *testing.T, f *fixture, before holding) {
	t.Helper()
	diff, err := census.Settle(t.Context(), before.machine, census.Patience)
	if err != nil || diff != "" {
		t.Errorf("the machine is different: %v\n%s", err, diff)
	}
	if now := containerdObjects(t, f.Node); now != before.containerd {
		t.Errorf("containerd holds\n%s\nand held\n%s", now, before.containerd)
	}
	if now := f.Brig(t, "ls", "--all", "--json"); now != before.list {
		t.Errorf("the list is\n%s\nand was\n%s", now, before.list)
	}
}
