package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"brig/internal/require"
	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/tests/image/oci"
	testnode "brig/tests/node"
)

// recovery is how soon after a restart everything must be as the records say.
const recovery = 5 * time.Second

// agent is a whole node: brigd with its containerd, and the image.
type agent struct{ *testnode.Node }

// launchAgent starts one that is stopped when t ends; what it leaves fails t.
func launchAgent(t *testing.T, o testnode.Options) *agent {
	t.Helper()
	require.Net(t)
	require.Runsc(t)
	a := &agent{testnode.Launch(t, o)}
	a.importImage(t)
	return a
}

func (a *agent) importImage(t *testing.T) {
	t.Helper()
	img, err := oci.Recipe{}.Image(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(a.Dir, "image.tar")
	if err := oci.WriteArchive(archive, imageName, img); err != nil {
		t.Fatal(err)
	}
	a.Brig(t, "image", "import", archive)
	if err := os.Remove(archive); err != nil {
		t.Fatal(err)
	}
}

// ask is the context of one call.
func ask(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// make makes a sandbox.
func (a *agent) make(ctx context.Context, r *brigv1.CreateRequest) (*brigv1.Sandbox, error) {
	r.Image = imageName
	res, err := a.Sandboxes.Create(ctx, connect.NewRequest(r))
	if err != nil {
		return nil, err
	}
	return res.Msg.GetSandbox(), nil
}

// restart starts brigd anew and wants, in time, the node to hold exactly what the
// records say.
func (a *agent) restart(t *testing.T) {
	t.Helper()
	begun := time.Now()
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	a.converges(t, recovery-time.Since(begun))
}

func (a *agent) converges(t *testing.T, within time.Duration) {
	t.Helper()
	// What ends is waited for by the call itself.
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	res, err := a.Client.Node.Verify(ctx, connect.NewRequest(&brigv1.VerifyRequest{}))
	if err != nil {
		t.Fatalf("the node was not in line within %v: %v", within.Round(time.Millisecond), err)
	}
	if d := res.Msg.GetDifferences(); len(d) > 0 {
		t.Errorf("the node differs from its records:\n%s\nbrigd says:\n%s", strings.Join(d, "\n"), a.Log(20))
	}
}

// runs tells whether programs run in a sandbox.
func (a *agent) runs(ctx context.Context, id string) error {
	res, err := a.Exec.Run(ctx, connect.NewRequest(&brigv1.ExecRunRequest{Exec: &brigv1.ExecSpec{Sandbox: id, Argv: []string{"echo", "here"}}}))
	if err != nil {
		return err
	}
	if out := string(res.Msg.GetStdout()); out != "here\n" {
		return fmt.Errorf("echo here says %q", out)
	}
	return nil
}

func (a *agent) remove(ctx context.Context, id string) error {
	_, err := a.Sandboxes.Remove(ctx, connect.NewRequest(&brigv1.RemoveRequest{Sandbox: id, Force: true}))
	if connect.CodeOf(err) == connect.CodeNotFound {
		return nil
	}
	return err
}

func (a *agent) get(ctx context.Context, id string) (*brigv1.Sandbox, error) {
	res, err := a.Sandboxes.Get(ctx, connect.NewRequest(&brigv1.GetRequest{Sandbox: id}))
	if err != nil {
		return nil, err
	}
	return res.Msg.GetSandbox(), nil
}

// echoes wants what is said through a tunnel to come back.
func echoes(tunnel *brigv1.Tunnel) error {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(tunnel.GetHost(), fmt.Sprint(tunnel.GetPort())), patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	back := make([]byte, 5)
	_, err = conn.Write([]byte("hello"))
	if err == nil {
		_, err = io.ReadFull(conn, back)
	}
	if err == nil && string(back) != "hello" {
		err = fmt.Errorf("%q came back", back)
	}
	return err
}

// bystander is a sandbox that nothing may happen to: it serves a tunnel.
func (a *agent) bystander(t *testing.T) *brigv1.Sandbox {
	t.Helper()
	s, err := a.make(ask(t), &brigv1.CreateRequest{
		Argv:  []string{"nc", "-ll", "-p", "7", "-e", "cat"},
		Ports: []*brigv1.Port{{SandboxPort: 7, Kind: brigv1.TunnelKind_TUNNEL_KIND_TCP}},
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, func() error { return echoes(s.GetTunnels()[0]) })
	return s
}

// unharmed wants a sandbox to be what it was, and to work.
func (a *agent) unharmed(t *testing.T, was *brigv1.Sandbox) {
	t.Helper()
	now, err := a.get(ask(t), was.GetId())
	if err != nil {
		t.Fatal(err)
	}
	if now.GetState() != was.GetState() || now.GetAddress() != was.GetAddress() || !now.GetDeadline().AsTime().Equal(was.GetDeadline().AsTime()) {
		t.Errorf("a bystander is now\n%v\nand was\n%v", now, was)
	}
	if err := errors.Join(echoes(was.GetTunnels()[0]), a.runs(ask(t), was.GetId())); err != nil {
		t.Errorf("a bystander: %v", err)
	}
}
