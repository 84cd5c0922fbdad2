package server

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/api/brig/v1/brigv1connect"
)

type execClientStream = connect.BidiStreamForClient[brigv1.ExecStreamRequest, brigv1.ExecStreamResponse]

// flood starts n programs, each of which writes more than a client is sent that does not
// read.
func (s *served) flood(ctx context.Context, t *testing.T, hc *http.Client, n int) (streams []*execClientStream) {
	t.Helper()
	made, err := brigv1connect.NewSandboxesClient(s.h2, "http://brig").Create(t.Context(), connect.NewRequest(&brigv1.CreateRequest{Image: "localhost/x"}))
	if err != nil {
		t.Fatal(err)
	}
	start := &brigv1.ExecStart{Exec: &brigv1.ExecSpec{Sandbox: made.Msg.GetSandbox().GetId(), Argv: []string{"count", strconv.Itoa(16 << 20)}}}
	c := brigv1connect.NewExecClient(hc, "http://brig", connect.WithGRPC())
	for range n {
		stream := c.Stream(ctx)
		if err := stream.Send(&brigv1.ExecStreamRequest{Message: &brigv1.ExecStreamRequest_Start{Start: start}}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Receive(); err != nil {
			t.Fatal(err)
		}
		streams = append(streams, stream)
	}
	return streams
}

func (s *served) awaitNoExecs(t *testing.T) {
	t.Helper()
	for until := time.Now().Add(10 * time.Second); s.node.Execs() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d programs go on for nobody", s.node.Execs())
		}
	}
}

// TestFloodedClientsLeave: a client that is sent more than it reads, and goes, takes its
// program along: by its word, or by the end of its connection.
//
// A client has gone when it says so. Go's own says nothing when only the context of a
// stream ends, unless somebody reads the stream or closes it.
func TestFloodedClientsLeave(t *testing.T) {
	s := serve(t)
	t.Run("by cancelling", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		streams := s.flood(ctx, t, s.h2, 15)
		cancel()
		for _, stream := range streams {
			_ = stream.CloseRequest()
			_ = stream.CloseResponse()
		}
		s.awaitNoExecs(t)
	})
	t.Run("by dying", func(t *testing.T) {
		var mu sync.Mutex // guards conns
		var conns []net.Conn
		var p http.Protocols
		p.SetUnencryptedHTTP2(true)
		hc := &http.Client{Transport: &http.Transport{Protocols: &p, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", s.cfg.Socket)
			mu.Lock()
			defer mu.Unlock()
			conns = append(conns, conn)
			return conn, err
		}}}
		s.flood(t.Context(), t, hc, 15)
		mu.Lock()
		defer mu.Unlock()
		for _, conn := range conns {
			conn.Close()
		}
		s.awaitNoExecs(t)
	})
}
