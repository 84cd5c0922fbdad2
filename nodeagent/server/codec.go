package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// jsonCodec is Connect's JSON, but for unknown fields, which are errors.
type jsonCodec struct{ name string }

func (c jsonCodec) Name() string { return c.name }

func (jsonCodec) Marshal(v any) ([]byte, error) {
	m, err := message(v)
	if err != nil {
		return nil, err
	}
	data, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	// protojson puts in spaces at random, so that nobody takes its text for stable.
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		return nil, err
	}
	return compact.Bytes(), nil
}

// position is what protojson puts before the part that helps.
var position = regexp.MustCompile(`^proto:.\(line \d+:\d+\): `)

func (jsonCodec) Unmarshal(data []byte, v any) error {
	m, err := message(v)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return errors.New("the body is empty: send a JSON object, at least {}")
	}
	if err := protojson.Unmarshal(data, m); err != nil {
		return errors.New(position.ReplaceAllString(err.Error(), ""))
	}
	return nil
}

// protoCodec is protobuf's wire format, but for unknown fields, which are errors.
type protoCodec struct{}

func (protoCodec) Name() string { return "proto" }

func (protoCodec) Marshal(v any) ([]byte, error) {
	m, err := message(v)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(m)
}

// MarshalAppend lets connect keep its buffers.
func (protoCodec) MarshalAppend(to []byte, v any) ([]byte, error) {
	m, err := message(v)
	if err != nil {
		return nil, err
	}
	return proto.MarshalOptions{}.MarshalAppend(to, m)
}

func (protoCodec) Unmarshal(data []byte, v any) error {
	m, err := message(v)
	if err != nil {
		return err
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return err
	}
	return refuseUnknown(m.ProtoReflect())
}

func message(v any) (proto.Message, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no protobuf message", v)
	}
	return m, nil
}

// refuseUnknown looks for fields that m's type does not have, at any depth.
func refuseUnknown(m protoreflect.Message) (err error) {
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		number, _, _ := protowire.ConsumeTag(unknown)
		return fmt.Errorf("unknown field number %d in %s", number, m.Descriptor().FullName())
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap() && f.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				err = refuseUnknown(v.Message())
				return err == nil
			})
		case f.IsMap(), f.Message() == nil:
		case f.IsList():
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = refuseUnknown(v.List().Get(i).Message())
			}
		default:
			err = refuseUnknown(v.Message())
		}
		return err == nil
	})
	return err
}
