package server

import (
	"context"
	"log/slog"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"brig/internal/sandbox"
	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/api/brig/v1/brigv1connect"
	"brig/nodeagent/socket"
)

// reading are the calls that change nothing; they are audited when they are refused. All
// others are audited always: a call that somebody adds and forgets here is one too many
// in the log, not one too few.
var reading = map[string]bool{
	brigv1connect.SandboxesGetProcedure:              true,
	brigv1connect.SandboxesListProcedure:             true,
	brigv1connect.SandboxesWaitProcedure:             true,
	brigv1connect.SandboxesReadOutputProcedure:       true,
	brigv1connect.SandboxesStatsProcedure:            true,
	brigv1connect.SandboxesListCheckpointsProcedure:  true,
	brigv1connect.SandboxesGetNetworkPolicyProcedure: true,
	brigv1connect.SandboxesExplainNetworkProcedure:   true,
	brigv1connect.SandboxesEventsProcedure:           true,
	brigv1connect.ExecReadProcedure:                  true,
	brigv1connect.ExecWaitProcedure:                  true,
	brigv1connect.FilesReadProcedure:                 true,
	brigv1connect.FilesListProcedure:                 true,
	brigv1connect.FilesStatProcedure:                 true,
	brigv1connect.TunnelsListProcedure:               true,
	brigv1connect.ImagesListProcedure:                true,
	brigv1connect.NodeInfoProcedure:                  true,
	brigv1connect.NodeVerifyProcedure:                true,
	brigv1connect.NodeCAProcedure:                    true,
}

// keystrokes are calls that go on with what an audited call began, a piece of stdin at a
// time. A line for each would be the log's end; they are audited when they are refused.
var keystrokes = map[string]bool{
	brigv1connect.SandboxesWriteInputProcedure:     true,
	brigv1connect.SandboxesResizeTerminalProcedure: true,
	brigv1connect.ExecWriteProcedure:               true,
	brigv1connect.ExecResizeProcedure:              true,
}

// audited tells whether a call leaves a line.
func audited(procedure string, err error) bool {
	return err != nil || !reading[procedure] && !keystrokes[procedure] && protocol[procedure]
}

// audit writes who did what, and what came of it. What a request holds beside the
// sandbox's name is not its business: argv, environment and secrets are in no line.
func audit(ctx context.Context, log *slog.Logger, procedure, ref, code string) {
	c := socket.From(ctx)
	attrs := []any{"component", "audit", "procedure", procedure, "uid", c.UID, "pid", c.PID}
	if !c.Local() {
		attrs = append(attrs, "principal", c.Principal)
	}
	if ref != "" {
		attrs = append(attrs, "sandbox", ref)
	}
	log.Info("call", append(attrs, "code", code)...)
}

// subject is the sandbox that a message names, if that has the form of an id or of a
// name: nobody's text goes into the log.
func subject(message any) string {
	m, ok := message.(proto.Message)
	if !ok {
		return ""
	}
	ref := reference(m.ProtoReflect())
	if _, err := sandbox.ParseID(ref); err != nil && sandbox.CheckName(ref) != nil {
		return ""
	}
	return ref
}

// reference finds the field sandbox of a request, or of what it begins with, or that of
// an answer that is a sandbox's.
func reference(m protoreflect.Message) string {
	fields := m.Descriptor().Fields()
	if f := fields.ByName("sandbox"); f != nil && f.Kind() == protoreflect.StringKind && !f.IsList() {
		return m.Get(f).String()
	}
	if made, ok := m.Interface().(*brigv1.CreateResponse); ok {
		return made.GetSandbox().GetId()
	}
	for _, name := range []protoreflect.Name{"start", "attach", "exec"} {
		if f := fields.ByName(name); f != nil && f.Message() != nil && m.Has(f) {
			return reference(m.Get(f).Message())
		}
	}
	return ""
}

// listening notes which sandbox a stream is about, from the first message that says so.
type listening struct {
	connect.StreamingHandlerConn
	mu      sync.Mutex // guards what follows
	subject string
}

// Receive is the stream's own.
func (l *listening) Receive(m any) error {
	if err := l.StreamingHandlerConn.Receive(m); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.subject == "" {
		l.subject = subject(m)
	}
	return nil
}

func (l *listening) about() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.subject
}
