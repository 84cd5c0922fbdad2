package command_test

import (
	"context"
	"errors"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/api/brig/v1/brigv1connect"
	"connectrpc.com/connect"
)

// fakeFiles are those of one sandbox, which says what the test tells it to.
type fakeFiles struct {
	brigv1connect.UnimplementedFilesHandler
	node *fakeNode

	info *brigv1.FileInfo // of what is read
	data []byte           // likewise
	cut  bool             // the stream breaks off after it

	there map[string]brigv1.FileType // what is in the sandbox

	start   *brigv1.FilesWriteStart // as received
	written []byte
}

func (f *fakeFiles) Read(_ context.Context, r *connect.Request[brigv1.FilesReadRequest], stream *connect.ServerStream[brigv1.FilesReadResponse]) error {
	if _, err := f.node.find(r.Msg.GetSandbox()); err != nil {
		return err
	}
	if err := stream.Send(&brigv1.FilesReadResponse{Info: f.info}); err != nil {
		return err
	}
	if err := stream.Send(&brigv1.FilesReadResponse{Data: f.data}); err != nil {
		return err
	}
	if f.cut {
		return connect.NewError(connect.CodeAborted, errors.New("the sandbox broke off the call"))
	}
	return nil
}

func (f *fakeFiles) Stat(_ context.Context, r *connect.Request[brigv1.FilesStatRequest]) (*connect.Response[brigv1.FilesStatResponse], error) {
	if _, err := f.node.find(r.Msg.GetSandbox()); err != nil {
		return nil, err
	}
	kind, ok := f.there[r.Msg.GetPath()]
	if !ok {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("no such file"))
	}
	return connect.NewResponse(&brigv1.FilesStatResponse{File: &brigv1.FileInfo{Type: kind}}), nil
}

func (f *fakeFiles) Write(_ context.Context, stream *connect.ClientStream[brigv1.FilesWriteRequest]) (*connect.Response[brigv1.FilesWriteResponse], error) {
	for stream.Receive() {
		if start := stream.Msg().GetStart(); start != nil {
			f.start = start
		}
		f.written = append(f.written, stream.Msg().GetData()...)
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.FilesWriteResponse{Size: uint64(len(f.written))}), nil
}
