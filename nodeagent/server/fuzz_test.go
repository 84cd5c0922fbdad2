package server

import (
	"bytes"
	"io"
	"testing"

	"google.golang.org/protobuf/proto"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/record"
)

// requests are one of each message that a caller can send with something in it.
func requests() []proto.Message {
	return []proto.Message{
		&brigv1.CreateRequest{}, &brigv1.SetNetworkPolicyRequest{}, &brigv1.ExplainNetworkRequest{}, &brigv1.ExecRunRequest{},
		&brigv1.ExecStreamRequest{}, &brigv1.FilesWriteRequest{}, &brigv1.TunnelsOpenRequest{}, &brigv1.PullRequest{},
	}
}

// fuzzCodec holds a codec to this: what it takes it can write, and takes again as the same.
func fuzzCodec(t *testing.T, data []byte, c interface {
	Marshal(any) ([]byte, error)
	Unmarshal([]byte, any) error
}) {
	for _, m := range requests() {
		if c.Unmarshal(data, m) != nil {
			continue
		}
		again, err := c.Marshal(m)
		if err != nil {
			t.Fatalf("%T was read and cannot be written: %v", m, err)
		}
		copied := m.ProtoReflect().New().Interface()
		if err := c.Unmarshal(again, copied); err != nil {
			t.Fatalf("%T was written as %q, which is not read: %v", m, again, err)
		}
		if twice, err := c.Marshal(copied); err != nil || !bytes.Equal(sortedWire(t, m), sortedWire(t, copied)) {
			t.Fatalf("%T changes: %q, then %q, %v", m, again, twice, err)
		}
	}
}

func sortedWire(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `null`, `[]`, `{"image":"x","argv":["a\u0000b"],"timeout":"1s","resources":{"cpu":"NaN"}}`,
		`{"network":{"cidrAllowlist":{"cidrs":["0.0.0.0/0"]}},"ports":[{"sandboxPort":80,"kind":"TUNNEL_KIND_H2"}]}`,
		`{"exec":{"sandbox":"..","argv":["-flag"]},"maxOutput":4294967295}`, `{"image":"x","image":"y"}`, `{"timeout":"-0.000000001s"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) { fuzzCodec(t, data, jsonCodec{name: "json"}) })
}

func FuzzProto(f *testing.F) {
	seed, err := proto.Marshal(&brigv1.CreateRequest{Image: "x", Tags: map[string]string{"a": "b"}, Network: &brigv1.NetworkPolicy{BlockNetwork: true}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{})
	f.Add([]byte{0xfa, 0x7f, 0x01, 0x00})
	f.Add([]byte{0x42, 0x80})
	f.Fuzz(func(t *testing.T, data []byte) { fuzzCodec(t, data, protoCodec{}) })
}

// FuzzRequest: what the wire says becomes a request that says the same each time, or an
// error that has a class; never a panic.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"image":"localhost/x","argv":["a"],"env":{"A":"b"},"mounts":[{"target":"/m","tmpfs":{}}],"ready":{"tcpPort":80}}`))
	f.Add([]byte(`{"image":"../../x","name":"-","workdir":"/../..","secrets":{"":"x"},"size":{"columns":70000},"overflow":7}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &brigv1.CreateRequest{}
		if (jsonCodec{}).Unmarshal(data, m) != nil {
			return
		}
		one, errOne := requestOf(m)
		two, errTwo := requestOf(m)
		if (errOne == nil) != (errTwo == nil) {
			t.Fatalf("%v, then %v", errOne, errTwo)
		}
		if errOne != nil {
			if failure(errOne).Error() == "" {
				t.Fatal("an error without a word")
			}
			return
		}
		checkSame(t, one, two)
	})
}

func checkSame(t *testing.T, one, two record.Request) {
	t.Helper()
	a, errA := one.Digest()
	b, errB := two.Digest()
	if a != b || (errA == nil) != (errB == nil) {
		t.Fatalf("the same message gives %v (%v) and %v (%v)", one, errA, two, errB)
	}
}

// FuzzFrames: whatever bytes a stream has, they are counted while they are held, passed on
// as they are, and given back.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x03abc\x00\x00\x00\x00\x00"), uint8(2))
	f.Add([]byte("\x00\xff\xff\xff\xff"), uint8(255))
	f.Add([]byte("\x00\x00\x00"), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		b := &budget{one: map[uint32]int64{}}
		m := &metered{ReadCloser: io.NopCloser(bytes.NewReader(data)), budget: b}
		var passed []byte
		for buffer := make([]byte, int(piece)+1); ; {
			n, err := m.Read(buffer)
			passed = append(passed, buffer[:n]...)
			if b.all > int64(len(data)) || b.all < 0 {
				t.Fatalf("%d of %d bytes are held", b.all, len(data))
			}
			if err != nil {
				break
			}
		}
		if !bytes.Equal(passed, data) {
			t.Fatalf("%q was passed on as %q", data, passed)
		}
		if m.release(); b.all != 0 || len(b.one) != 0 {
			t.Fatalf("%d bytes are held at the end", b.all)
		}
	})
}
