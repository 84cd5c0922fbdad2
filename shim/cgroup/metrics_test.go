package cgroup

import (
	"testing"

	v1 "github.com/containerd/cgroups/v3/cgroup1/stats"
	v2 "github.com/containerd/cgroups/v3/cgroup2/stats"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

func TestPart(t *testing.T) {
	for _, whole := range []Metrics{
		{V1: &v1.Metrics{
			CPU:              &v1.CPUStat{Usage: &v1.CPUUsage{Total: 9000, User: 5000}},
			Memory:           &v1.MemoryStat{Cache: 7, Usage: &v1.MemoryEntry{Usage: 50, Limit: 100}},
			MemoryOomControl: &v1.MemoryOomControl{OomKill: 2},
		}},
		{V2: &v2.Metrics{CPU: &v2.CPUStat{UsageUsec: 9, UserUsec: 5}, Memory: &v2.MemoryStat{File: 7, Usage: 50, UsageLimit: 100}, MemoryEvents: &v2.MemoryEvents{High: 3, OomKill: 2}}},
	} {
		if whole.CPU() != 9000 || whole.Memory() != 50 {
			t.Errorf("%v: %d ns, %d bytes", whole, whole.CPU(), whole.Memory())
		}
		part := whole.Part(3000, 20)
		part.SetTasks(4)
		want := map[bool]string{
			false: `pids:{current:4}  cpu:{usage:{total:3000}  throttling:{}}  memory:{usage:{limit:100  usage:20}} memory_oom_control:{oom_kill:2}`,
			true:  `pids:{current:4}  cpu:{usage_usec:3}  memory:{usage:20  usage_limit:100} memory_events:{oom_kill:2}`,
		}[whole.V2 != nil]
		if got := text(t, part.Message()); got != text(t, parse(t, part.Message(), want)) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if part.CPU() != 3000 || part.Memory() != 20 {
			t.Errorf("%v: %d ns, %d bytes", part, part.CPU(), part.Memory())
		}
	}
	if m := Empty(); m.CPU() != 0 || m.Memory() != 0 || m.Message() == nil {
		t.Errorf("empty metrics: %v", m)
	}
}

func parse(t *testing.T, like proto.Message, text string) proto.Message {
	t.Helper()
	m := like.ProtoReflect().New().Interface()
	if err := prototext.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// text is the same for equal messages of one run.
func text(t *testing.T, m proto.Message) string {
	t.Helper()
	data, err := prototext.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
