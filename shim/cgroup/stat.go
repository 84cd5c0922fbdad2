package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Stat reads the group. The pids are left out: the host would count the threads of the
// sandbox's kernel. What a kernel does not account for is zero.
func (g Group) Stat() (Metrics, error) {
	r := reader{group: g}
	var m Metrics
	if g.Unified() {
		m.V2 = r.stat2()
	} else {
		m.V1 = r.stat1()
	}
	if r.err != nil {
		return Metrics{}, fmt.Errorf("read cgroup: %w", r.err)
	}
	return m, nil
}

// reader keeps the first error; a file that is not there is none, unless it is the
// memory's: then there is no group.
type reader struct {
	group Group
	err   error
}

func (r *reader) text(file string) string {
	text, err := r.group.read(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EOPNOTSUPP) {
		r.err = cmp.Or(r.err, err)
	}
	return text
}

func (r *reader) required(file string) string {
	text, err := r.group.read(file)
	r.err = cmp.Or(r.err, err)
	return text
}

func (r *reader) number(file string) uint64 { return number(r.text(file)) }

// number of what cannot be read is zero; "max" is as many as there can be.
func number(text string) uint64 {
	if text == "max" {
		return math.MaxUint64
	}
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}

// pairs calls f for each line "key value".
func pairs(text string, f func(key string, value uint64)) {
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			f(key, number(value))
		}
	}
}

// fill sets the fields of a message that are called like the kernel's keys, but for
// underscores, where the two differ; keys that the message lacks are left out.
func fill(m proto.Message, text string) {
	message := m.ProtoReflect()
	fields := message.Descriptor().Fields()
	byKey := make(map[string]protoreflect.FieldDescriptor, fields.Len())
	for i := range fields.Len() {
		if f := fields.Get(i); f.Kind() == protoreflect.Uint64Kind && !f.IsList() {
			byKey[strings.ReplaceAll(string(f.Name()), "_", "")] = f
		}
	}
	pairs(text, func(key string, value uint64) {
		if f := byKey[strings.ReplaceAll(key, "_", "")]; f != nil {
			message.Set(f, protoreflect.ValueOfUint64(value))
		}
	})
}
