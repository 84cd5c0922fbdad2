package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
)

// Download is what a sandbox sends of a file or a tree: a claim of the sandbox's, to be
// read as such. It ends with io.EOF only when all of it has come.
type Download struct {
	// Info is what it is, in the sandbox's words.
	Info   *brigv1.FileInfo
	stream *connect.ServerStreamForClient[brigv1.FilesReadResponse]
	rest   []byte
}

// ReadFiles begins a download. It must be closed.
func ReadFiles(ctx context.Context, c *Client, r *brigv1.FilesReadRequest) (*Download, error) {
	stream, err := c.Files.Read(ctx, connect.NewRequest(r))
	if err != nil {
		return nil, err
	}
	d := &Download{stream: stream}
	if !stream.Receive() || stream.Msg().GetInfo() == nil {
		err := errors.Join(stream.Err(), stream.Close())
		if err == nil {
			err = errors.New("brigd does not say what it sends; are brig and brigd of one version?")
		}
		return nil, err
	}
	d.Info, d.rest = stream.Msg().GetInfo(), stream.Msg().GetData()
	return d, nil
}

// Read is that of io.Reader.
func (d *Download) Read(p []byte) (int, error) {
	for len(d.rest) == 0 {
		if !d.stream.Receive() {
			if err := d.stream.Err(); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}
		d.rest = d.stream.Msg().GetData()
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

// Close ends the download, also in the middle.
func (d *Download) Close() error { return d.stream.Close() }

// WriteFiles sends in to its end and returns how many bytes of files were written. An
// error of in's breaks it off, and nothing is made. sent is told the number of bytes
// after every chunk.
func WriteFiles(ctx context.Context, c *Client, start *brigv1.FilesWriteStart, in io.Reader, sent func(uint64)) (uint64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // breaks off what is not closed
	stream := c.Files.Write(ctx)
	err := stream.Send(&brigv1.FilesWriteRequest{Message: &brigv1.FilesWriteRequest_Start{Start: start}})
	buf := make([]byte, chunk)
	for total := uint64(0); err == nil; {
		n, rerr := io.ReadFull(in, buf)
		if n > 0 {
			err = stream.Send(&brigv1.FilesWriteRequest{Message: &brigv1.FilesWriteRequest_Data{Data: buf[:n]}})
			total += uint64(n)
			sent(total)
		}
		if errors.Is(rerr, io.EOF) || errors.Is(rerr, io.ErrUnexpectedEOF) {
			break
		}
		if rerr != nil {
			return 0, fmt.Errorf("read what is copied: %w", rerr)
		}
	}
	// If brigd gave up, its answer tells why.
	res, err := stream.CloseAndReceive()
	if err != nil {
		return 0, err
	}
	return res.Msg.GetSize(), nil
}
