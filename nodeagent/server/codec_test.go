package server

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	brigv1 "brig/nodeagent/api/brig/v1"
)

func TestJSON(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{`{"image":"x","network":{"cidrAllowlist":{}},"timeout":"30s"}`, ""},
		{`{"image":"x","network":{"cidr_allowlist":{}}}`, ""},
		{`{}`, ""},
		{``, "the body is empty: send a JSON object, at least {}"},
		{`{"imag":"x"}`, `unknown field "imag"`},
		{`{"network":{"block":true}}`, `unknown field "block"`},
		{`{"ports":[{"port":80}]}`, `unknown field "port"`},
		{`{"image":"x","image":"y"}`, `duplicate field "image"`},
		{`{"image":1}`, "invalid value for string field image: 1"},
		{`[]`, "unexpected token ["},
	} {
		err := jsonCodec{name: "json"}.Unmarshal([]byte(tc.in), &brigv1.CreateRequest{})
		got := ""
		if err != nil {
			got = err.Error()
		}
		if !strings.HasSuffix(got, tc.want) || tc.want == "" && got != "" || strings.Contains(got, "\n") {
			t.Errorf("%s: %q; want %q", tc.in, got, tc.want)
		}
	}
}

func TestJSONIsStable(t *testing.T) {
	m := &brigv1.Sandbox{Id: "sb-x", Name: "n", Tags: map[string]string{"a": "1", "b": "2"}}
	got, err := jsonCodec{}.Marshal(m)
	if err != nil || string(got) != `{"id":"sb-x","name":"n","tags":{"a":"1","b":"2"}}` {
		t.Errorf("%s, %v", got, err)
	}
}

func TestProtobufRefusesUnknownFields(t *testing.T) {
	// A field that no message has, put into a message as a later client would.
	future := protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 1)
	add := func(m proto.Message) { m.ProtoReflect().SetUnknown(future) }
	port, network, timeout := &brigv1.Port{SandboxPort: 80}, &brigv1.NetworkPolicy{}, durationpb.New(1)
	for name, tc := range map[string]struct {
		where proto.Message
		want  string
	}{
		"nowhere":       {nil, ""},
		"at the top":    {&brigv1.CreateRequest{}, "unknown field number 999 in brig.v1.CreateRequest"},
		"in a message":  {network, "unknown field number 999 in brig.v1.NetworkPolicy"},
		"in a list":     {port, "unknown field number 999 in brig.v1.Port"},
		"in a duration": {timeout, "unknown field number 999 in google.protobuf.Duration"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &brigv1.CreateRequest{Image: "x", Network: network, Ports: []*brigv1.Port{port}, Timeout: timeout, Env: map[string]string{"A": "1"}}
			switch tc.where.(type) {
			case nil:
			case *brigv1.CreateRequest:
				add(m)
			default:
				add(tc.where)
				defer tc.where.ProtoReflect().SetUnknown(nil)
			}
			data, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			err = protoCodec{}.Unmarshal(data, &brigv1.CreateRequest{})
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || err.Error() != tc.want) {
				t.Errorf("%v; want %q", err, tc.want)
			}
		})
	}
}
