package wire

import (
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"google.golang.org/protobuf/proto"
)

// Rehearse the messages of a container's making, with nothing in them: what reads and writes
// a message is made when it is first used.
func Rehearse() {
	for _, m := range []proto.Message{
		new(taskapi.CreateTaskRequest), new(taskapi.CreateTaskResponse),
		new(taskapi.StartRequest), new(taskapi.StartResponse),
	} {
		data, err := proto.Marshal(m)
		if err == nil {
			_ = proto.Unmarshal(data, m)
		}
	}
}
