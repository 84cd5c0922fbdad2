package wire

import (
	"context"

	"github.com/containerd/ttrpc"
)

// version2 of the Task API is version 3 under another name: a test compares their
// messages. Its clients have one connection a task and know no sandboxes.
const version2 = "containerd.task.v2.Task"

func (v Tasks) methods() map[string]ttrpc.Method {
	return map[string]ttrpc.Method{
		"State":      method(v.State),
		"Create":     method(v.Create),
		"Start":      method(v.Start),
		"Delete":     method(v.Delete),
		"Pids":       method(v.Pids),
		"Pause":      method(v.Pause),
		"Resume":     method(v.Resume),
		"Checkpoint": method(v.Checkpoint),
		"Kill":       method(v.Kill),
		"Exec":       method(v.Exec),
		"ResizePty":  method(v.ResizePty),
		"CloseIO":    method(v.CloseIO),
		"Update":     method(v.Update),
		"Wait":       method(v.Wait),
		"Stats":      method(v.Stats),
		"Connect":    method(v.Connect),
		"Shutdown":   method(v.Shutdown),
	}
}

func method[Request, Response any](call func(context.Context, *Request) (Response, error)) ttrpc.Method {
	return func(ctx context.Context, decode func(any) error) (any, error) {
		r := new(Request)
		if err := decode(r); err != nil {
			return nil, err
		}
		return call(ctx, r)
	}
}
