package server

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/files"
	"brig/nodeagent/files/wire"
)

// filesService is brig.v1.Files.
type filesService struct {
	*Server
	files *files.Files
}

func newFilesService(s *Server) filesService {
	return filesService{Server: s, files: files.New(files.Execs(s.manager.StartExec), s.log)}
}

func (s filesService) Read(ctx context.Context, r *connect.Request[brigv1.FilesReadRequest], stream *connect.ServerStream[brigv1.FilesReadResponse]) error {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return err
	}
	return s.files.Read(ctx, rec, files.ReadRequest{
		Path: r.Msg.GetPath(), Offset: r.Msg.GetOffset(), Length: r.Msg.GetLength(), Archive: r.Msg.GetArchive(),
	}, fileSink{stream})
}

// fileSink sends what is read.
type fileSink struct {
	stream *connect.ServerStream[brigv1.FilesReadResponse]
}

func (s fileSink) Info(i files.Info) error {
	return s.stream.Send(&brigv1.FilesReadResponse{Info: fileTo(i)})
}

func (s fileSink) Data(data []byte) error {
	return s.stream.Send(&brigv1.FilesReadResponse{Data: data})
}

func (s filesService) Write(ctx context.Context, stream *connect.ClientStream[brigv1.FilesWriteRequest]) (*connect.Response[brigv1.FilesWriteResponse], error) {
	if !stream.Receive() {
		return nil, errors.Join(stream.Err(), invalid("the stream is empty: begin with start"))
	}
	start := stream.Msg().GetStart()
	if start == nil {
		return nil, invalid("the first message is not start")
	}
	rec, err := s.find(ctx, start.GetSandbox())
	if err != nil {
		return nil, err
	}
	size, err := s.files.Write(ctx, rec, files.WriteRequest{
		Path: start.GetPath(), Mode: start.GetMode(), Archive: start.GetArchive(), Replace: start.GetReplace(),
	}, func() ([]byte, error) { return fileData(stream) })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.FilesWriteResponse{Size: size}), nil
}

// fileData returns what comes next; io.EOF only if the client has said all.
func fileData(stream *connect.ClientStream[brigv1.FilesWriteRequest]) ([]byte, error) {
	if !stream.Receive() {
		if err := stream.Err(); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}
	m, ok := stream.Msg().GetMessage().(*brigv1.FilesWriteRequest_Data)
	if !ok {
		return nil, invalid("after start comes data")
	}
	return m.Data, nil
}

func (s filesService) List(ctx context.Context, r *connect.Request[brigv1.FilesListRequest]) (*connect.Response[brigv1.FilesListResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	list, truncated, err := s.files.List(ctx, rec, r.Msg.GetPath(), func(n int) error { return chargeAhead(ctx, n) })
	if err != nil {
		return nil, err
	}
	answer := &brigv1.FilesListResponse{Truncated: truncated}
	for _, i := range list {
		answer.Files = append(answer.Files, fileTo(i))
	}
	return connect.NewResponse(answer), nil
}

func (s filesService) Stat(ctx context.Context, r *connect.Request[brigv1.FilesStatRequest]) (*connect.Response[brigv1.FilesStatResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	info, err := s.files.Stat(ctx, rec, r.Msg.GetPath())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.FilesStatResponse{File: fileTo(info)}), nil
}

func (s filesService) MakeDirectory(ctx context.Context, r *connect.Request[brigv1.FilesMakeDirectoryRequest]) (*connect.Response[brigv1.FilesMakeDirectoryResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	if err := s.files.MakeDirectory(ctx, rec, r.Msg.GetPath(), r.Msg.GetMode(), r.Msg.GetParents()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.FilesMakeDirectoryResponse{}), nil
}

func (s filesService) Remove(ctx context.Context, r *connect.Request[brigv1.FilesRemoveRequest]) (*connect.Response[brigv1.FilesRemoveResponse], error) {
	rec, err := s.find(ctx, r.Msg.GetSandbox())
	if err != nil {
		return nil, err
	}
	if err := s.files.Remove(ctx, rec, r.Msg.GetPath(), r.Msg.GetRecursive()); err != nil {
		return nil, err
	}
	return connect.NewResponse(&brigv1.FilesRemoveResponse{}), nil
}

var fileTypes = map[wire.Type]brigv1.FileType{
	wire.Regular:   brigv1.FileType_FILE_TYPE_REGULAR,
	wire.Directory: brigv1.FileType_FILE_TYPE_DIRECTORY,
	wire.Symlink:   brigv1.FileType_FILE_TYPE_SYMLINK,
	wire.Other:     brigv1.FileType_FILE_TYPE_OTHER,
}

func fileTo(i files.Info) *brigv1.FileInfo {
	return &brigv1.FileInfo{
		Name: i.Name, Type: fileTypes[i.Type], Size: i.Size, Mode: i.Mode, ModifiedAt: timestamppb.New(i.Modified),
		Uid: i.UID, Gid: i.GID, Target: i.Target,
	}
}
