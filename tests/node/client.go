package node

import (
	"context"
	"net"
	"net/http"

	"brig/nodeagent/api/brig/v1/brigv1connect"

	"connectrpc.com/connect"
)

// Client is the six services of a node, as its users' generated code has them.
type Client struct {
	Sandboxes brigv1connect.SandboxesClient
	Exec      brigv1connect.ExecClient
	Files     brigv1connect.FilesClient
	Tunnels   brigv1connect.TunnelsClient
	Images    brigv1connect.ImagesClient
	Node      brigv1connect.NodeClient
}

func newClient(socket string, options ...connect.ClientOption) Client {
	const base = "http://brig" // never resolved
	hc := &http.Client{Transport: Transport(socket, true)}
	return Client{
		Sandboxes: brigv1connect.NewSandboxesClient(hc, base, options...),
		Exec:      brigv1connect.NewExecClient(hc, base, options...),
		Files:     brigv1connect.NewFilesClient(hc, base, options...),
		Tunnels:   brigv1connect.NewTunnelsClient(hc, base, options...),
		Images:    brigv1connect.NewImagesClient(hc, base, options...),
		Node:      brigv1connect.NewNodeClient(hc, base, options...),
	}
}

// GRPC is the client of somebody who speaks gRPC.
func (n *Node) GRPC() Client { return newClient(n.Socket(), connect.WithGRPC()) }

// Transport dials a unix socket whatever the host; http2 is with prior
// knowledge, else it is HTTP/1.1 only.
func Transport(socket string, http2 bool) *http.Transport {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(http2)
	protocols.SetHTTP1(!http2)
	return &http.Transport{
		Protocols: &protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}
}
