package main

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"

	brigv1 "brig/nodeagent/api/brig/v1"
)

// agentCreateToOutput is createToOutput through brigd's API, with a network, its
// policy and the journal that the other ways do not have.
func (n *testNode) agentCreateToOutput(ctx context.Context) (time.Duration, func() error, error) {
	return n.agentRequest(ctx, &brigv1.CreateRequest{Image: imageName, Argv: talks})
}

// agentRequest takes the time from a request to the first byte of the sandbox's output.
func (n *testNode) agentRequest(ctx context.Context, request *brigv1.CreateRequest) (time.Duration, func() error, error) {
	began := time.Now()
	created, err := n.sandboxes.Create(ctx, connect.NewRequest(request))
	if err != nil {
		return 0, nothing, err
	}
	id := created.Msg.GetSandbox().GetId()
	err = n.firstOutput(ctx, id)
	return time.Since(began), func() error { return n.removeSandbox(context.WithoutCancel(ctx), id) }, err
}

// firstOutput returns when the sandbox's program has written something.
func (n *testNode) firstOutput(ctx context.Context, id string) error {
	output, err := n.sandboxes.ReadOutput(ctx, connect.NewRequest(&brigv1.ReadOutputRequest{Sandbox: id, Follow: true}))
	if err != nil {
		return err
	}
	defer output.Close()
	if !output.Receive() {
		return fmt.Errorf("no output: %w", output.Err())
	}
	return nil
}

// agentIdle makes a sandbox that execs can run in.
func (n *testNode) agentIdle(ctx context.Context) (string, error) {
	created, err := n.sandboxes.Create(ctx, connect.NewRequest(&brigv1.CreateRequest{
		Image: imageName, Argv: []string{"/bin/sleep", "3600"},
	}))
	if err != nil {
		return "", err
	}
	return created.Msg.GetSandbox().GetId(), nil
}

// agentExec is execRoundTrip through brigd's unary call.
func (n *testNode) agentExec(id string) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		began := time.Now()
		ran, err := n.exec.Run(ctx, connect.NewRequest(&brigv1.ExecRunRequest{
			Exec: &brigv1.ExecSpec{Sandbox: id, Argv: []string{"/bin/true"}},
		}))
		took := time.Since(began)
		if err != nil {
			return 0, err
		}
		if code := ran.Msg.GetExit().GetCode(); code != 0 {
			return 0, fmt.Errorf("true ended with %d", code)
		}
		return took, nil
	}
}

func (n *testNode) removeSandbox(ctx context.Context, id string) error {
	_, err := n.sandboxes.Remove(ctx, connect.NewRequest(&brigv1.RemoveRequest{Sandbox: id, Force: true}))
	return err
}
