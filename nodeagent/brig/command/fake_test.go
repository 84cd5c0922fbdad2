package command_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/api/brig/v1/brigv1connect"
	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// fakeNode serves the whole protocol over a unix socket and keeps its state in
// memory. Its programs are the few that program knows.
type fakeNode struct {
	brigv1connect.UnimplementedSandboxesHandler
	brigv1connect.UnimplementedExecHandler
	brigv1connect.UnimplementedTunnelsHandler
	brigv1connect.UnimplementedImagesHandler
	brigv1connect.UnimplementedNodeHandler

	mu        sync.Mutex
	sandboxes []*fakeSandbox
	images    []*brigv1.Image
	creates   []*brigv1.CreateRequest // as received
	pulls     []*brigv1.PullRequest
	execs     []*brigv1.ExecStart // as received
	sets      []*brigv1.SetNetworkPolicyRequest
	asked     []*brigv1.ExplainNetworkRequest
	files     *fakeFiles      // nil: none are served
	events    []*brigv1.Event // sent to whoever listens, who then loses the stream
	broken    bool            // see WriteInput
}

type fakeSandbox struct {
	*brigv1.Sandbox
	out   [3][]byte // by channel
	ended chan struct{}
	kill  chan int32            // a code to end with
	base  *brigv1.NetworkPolicy // what a lease reverts to
}

var epoch = timestamppb.New(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC))

// start serves the node on a socket that lives as long as the test.
func (n *fakeNode) start(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	n.serve(t, socket)
	return socket
}

// serve returns what stops this server; its state stays.
func (n *fakeNode) serve(t *testing.T, socket string) (stop func()) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(brigv1connect.NewSandboxesHandler(n))
	mux.Handle(brigv1connect.NewExecHandler(fakeExec{node: n}))
	if n.files != nil {
		mux.Handle(brigv1connect.NewFilesHandler(n.files))
	}
	mux.Handle(brigv1connect.NewTunnelsHandler(fakeTunnels{n}))
	mux.Handle(brigv1connect.NewImagesHandler(fakeImages{n}))
	mux.Handle(brigv1connect.NewNodeHandler(n))
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: mux, Protocols: &protocols}
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	stop = sync.OnceFunc(func() { _ = server.Close(); <-done })
	t.Cleanup(stop)
	return stop
}

func (n *fakeNode) find(name string) (*fakeSandbox, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sandboxes {
		if s.Id == name || (s.Name == name && s.State == brigv1.State_STATE_RUNNING) {
			return s, nil
		}
	}
	return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("no sandbox %q; brig ls shows them", name))
}

// number is 255 for what is none.
func number(s string) int32 {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 255
	}
	return int32(n)
}

// end lets a sandbox end without forgetting it.
func (n *fakeNode) end(id string) {
	if s, err := n.find(id); err == nil {
		s.kill <- 0
		<-s.ended
	}
}

// write lets a sandbox's program write to its stdout.
func (n *fakeNode) write(id, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sandboxes {
		if s.Id == id {
			s.out[brigv1.Channel_CHANNEL_STDOUT] = append(s.out[brigv1.Channel_CHANNEL_STDOUT], text...)
		}
	}
}

func (n *fakeNode) Info(context.Context, *connect.Request[brigv1.InfoRequest]) (*connect.Response[brigv1.InfoResponse], error) {
	return connect.NewResponse(&brigv1.InfoResponse{
		Node: "host", Version: "1.2.3", RunscVersion: "release-x", ContainerdAddress: "/run/brig/containerd.sock",
		ContainerdNamespace: "brig", AddressPool: "10.88.0.0/16", Running: 1, Waiting: 2,
		Platform: "systrap", Quota: &brigv1.Quota{Sandboxes: 1, SandboxesLimit: 1000, MemoryMib: 512, Cpu: 0.5, CpuLimit: 8, Gpus: 1, GpusLimit: 2},
		GpuDriver: "580.95.05",
		Gpus: []*brigv1.GPU{
			{Index: 0, Uuid: "GPU-a", Name: "NVIDIA H200", MemoryBytes: 150_000_000_000, Pci: "0000:3b:00.0", Sandboxes: []string{first}},
			{Index: 1, Uuid: "GPU-b", Name: "NVIDIA H200", MemoryBytes: 150_000_000_000},
			{Index: 2, Uuid: "GPU-c", Name: "NVIDIA H200", MemoryBytes: 150_000_000_000, Free: true},
			{Index: 3, Fault: "ERROR_GPU_IS_LOST"},
		},
	}), nil
}

func (n *fakeNode) CA(context.Context, *connect.Request[brigv1.CARequest]) (*connect.Response[brigv1.CAResponse], error) {
	return connect.NewResponse(&brigv1.CAResponse{Pem: "PEM", Path: "/var/lib/brig/ca/ca.pem"}), nil
}
