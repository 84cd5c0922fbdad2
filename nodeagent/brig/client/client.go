// Package client connects the command line to brigd: over its unix socket, by HTTP/2
// with prior knowledge, so that streams run both ways, or over TCP, with certificates
// on both sides; and the Connect protocol on top. Nothing is dialled before the first
// call. A Client may be used by several goroutines.
package client

import (
	"context"
	"net"
	"net/http"

	"brig/nodeagent/api/brig/v1/brigv1connect"
)

// Client is brigd's services behind one socket, or one address.
type Client struct {
	// Socket is the path dialled, or the address, for messages.
	Socket string

	Sandboxes brigv1connect.SandboxesClient
	Exec      brigv1connect.ExecClient
	Files     brigv1connect.FilesClient
	Tunnels   brigv1connect.TunnelsClient
	Images    brigv1connect.ImagesClient
	Node      brigv1connect.NodeClient
}

// New returns a client of the brigd that serves on socket.
func New(socket string) *Client {
	// The host is never resolved: DialContext ignores it.
	return over(socket, "http://brig", transport(socket))
}

func over(name, base string, t *http.Transport) *Client {
	hc := &http.Client{Transport: t}
	return &Client{
		Socket:    name,
		Sandboxes: brigv1connect.NewSandboxesClient(hc, base),
		Exec:      brigv1connect.NewExecClient(hc, base),
		Files:     brigv1connect.NewFilesClient(hc, base),
		Tunnels:   brigv1connect.NewTunnelsClient(hc, base),
		Images:    brigv1connect.NewImagesClient(hc, base),
		Node:      brigv1connect.NewNodeClient(hc, base),
	}
}

func transport(socket string) *http.Transport {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Protocols: &protocols,
		HTTP2: &http.HTTP2Config{
			// A message of output is one frame, not sixteen.
			MaxReadFrameSize: 1 << 20,
			// Far less than brigd keeps for a client that comes again.
			MaxReceiveBufferPerStream: 2 << 20,
		},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", socket)
			if err != nil {
				return nil, &DialError{Socket: socket, Err: err}
			}
			return conn, nil
		},
	}
}
