package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	brigv1 "brig/nodeagent/api/brig/v1"
)

// chunk is well below what one message may hold.
const chunk = 256 << 10

// Import sends the archive in and returns the images it held. sent is told the
// number of bytes after every chunk.
func Import(ctx context.Context, c *Client, in io.Reader, sent func(uint64)) ([]*brigv1.Image, error) {
	stream := c.Images.Import(ctx)
	buf := make([]byte, chunk)
	var total uint64
	for {
		n, err := io.ReadFull(in, buf)
		if n > 0 {
			if serr := stream.Send(&brigv1.ImportRequest{Chunk: buf[:n]}); serr != nil {
				break // brigd gave up; its answer tells why
			}
			total += uint64(n)
			sent(total)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			// Half an archive must not look like a whole one: leave without
			// closing; the cancelled context ends the call.
			return nil, fmt.Errorf("read the archive: %w", err)
		}
	}
	res, err := stream.CloseAndReceive()
	if err != nil {
		return nil, err
	}
	return res.Msg.GetImages(), nil
}
