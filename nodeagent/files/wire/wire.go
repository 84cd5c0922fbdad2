// Package wire is what brigd and brig-files say to each other: one request, as JSON in
// brig-files' only argument, and frames on its stdin and stdout.
//
// Both come from one release and are made for each other: neither has to understand an
// older one. brigd trusts nothing that comes out of a sandbox: a frame has a largest
// size, and what is in it is checked by whoever reads it.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

// Op is what brig-files is to do.
type Op string

// What it answers, and with which frames, in this order:
const (
	Read            Op = "read"   // Info, Data…, End
	Write           Op = "write"  // End; it reads Data…, End
	List            Op = "list"   // Info…, End
	Stat            Op = "stat"   // Info, End
	MakeDirectory   Op = "mkdir"  // End
	Remove          Op = "remove" // End
	MaxPath            = 4095     // bytes
	MaxListed          = 10_000   // entries
	MaxListedBytes     = 4 << 20  // of their names and targets
	maxRequestBytes    = 60 << 10 // as JSON, below what an exec takes
)

// A side that waits for its client sends an empty frame of data every KeepAlive, and
// brig-files takes one that is silent for Silence for dead. That is less than execs
// outlive a brigd that was killed, so that it has cleaned up when it is ended.
const (
	KeepAlive = 2 * time.Second
	Silence   = 12 * time.Second
)

// Request to brig-files. Fields are those of the protocol's messages.
type Request struct {
	Op   Op     `json:"op"`
	Path string `json:"path"`

	Offset uint64 `json:"offset,omitempty"` // Read
	Length uint64 `json:"length,omitempty"` // Read; 0: to the end

	Archive bool `json:"archive,omitempty"` // Read, Write
	Replace bool `json:"replace,omitempty"` // Write

	Mode uint32 `json:"mode,omitempty"` // Write, MakeDirectory: 0..07777

	Parents   bool `json:"parents,omitempty"`   // MakeDirectory
	Recursive bool `json:"recursive,omitempty"` // Remove
}

// Argument is r as brig-files takes it.
func (r Request) Argument() (string, error) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return "", fmt.Errorf("encode a request to brig-files: %w", err)
	}
	if text.Len() > maxRequestBytes {
		return "", fmt.Errorf("a request to brig-files takes %d bytes, more than %d", text.Len(), maxRequestBytes)
	}
	return text.String(), nil
}

// ParseRequest reads an Argument.
func ParseRequest(argument string) (Request, error) {
	var r Request
	dec := json.NewDecoder(bytes.NewReader([]byte(argument)))
	dec.DisallowUnknownFields()
	err := dec.Decode(&r)
	return r, err
}

// Type of a file.
type Type string

// What a path leads to.
const (
	Regular   Type = "regular"
	Directory Type = "directory"
	Symlink   Type = "symlink"
	Other     Type = "other"
)

// Info about a file. Bytes of names that are no UTF-8 are replaced.
type Info struct {
	Name   string `json:"name"`
	Type   Type   `json:"type"`
	Size   uint64 `json:"size"`
	Mode   uint32 `json:"mode"` // 0..07777
	MTime  int64  `json:"mtime"`
	MNanos int64  `json:"mnanos"`
	UID    uint32 `json:"uid"`
	GID    uint32 `json:"gid"`
	Target string `json:"target,omitempty"`
}

// Check refuses what no kernel says of a file.
func (i Info) Check() error {
	switch i.Type {
	case Regular, Directory, Symlink, Other:
	default:
		return fmt.Errorf("a file of the type %.20q", i.Type)
	}
	if i.Mode > 0o7777 || i.MNanos < 0 || i.MNanos >= 1e9 || i.MTime < minTime || i.MTime > maxTime {
		return fmt.Errorf("a file with mode %o of the time %d.%d", i.Mode, i.MTime, i.MNanos)
	}
	if len(i.Name) > 4*MaxPath || len(i.Target) > 4*MaxPath || !utf8.ValidString(i.Name) || !utf8.ValidString(i.Target) {
		return fmt.Errorf("a file with a name of %d bytes", len(i.Name)+len(i.Target))
	}
	return nil
}

// The seconds that a protobuf Timestamp can be: years 1 to 9999.
const (
	minTime = -62135596800
	maxTime = 253402300799
)

// End of what one side has to say.
type End struct {
	// Size is how many bytes of files were written.
	Size uint64 `json:"size,omitempty"`
	// Truncated: there is more than was listed.
	Truncated bool `json:"truncated,omitempty"`
}

// Class of a failure, as the protocol has them.
type Class string

// Classes; any other one is Aborted.
const (
	NotFound     Class = "not_found"
	Exists       Class = "already_exists"
	Denied       Class = "permission_denied"
	Precondition Class = "failed_precondition"
	Invalid      Class = "invalid_argument"
	Exhausted    Class = "resource_exhausted"
	Aborted      Class = "aborted"
)

// Failure ends what one side has to say.
type Failure struct {
	Class Class  `json:"class"`
	Text  string `json:"text"`
}

// Error is Text.
func (f *Failure) Error() string { return f.Text }

// Kind of a frame.
type Kind byte

// Kinds of frames, with what is in them.
const (
	KindInfo    Kind = 'i' // Info
	KindData    Kind = 'd' // bytes
	KindEnd     Kind = 'z' // End
	KindFailure Kind = 'e' // Failure
)

// MaxFrame is how much may be in a frame, bytes.
const MaxFrame = 256 << 10

const headerSize = 5

// Writer of frames.
type Writer struct {
	w   io.Writer
	buf []byte
}

// NewWriter writes frames to w, each by one call.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Frame writes one. A payload longer than MaxFrame is an error.
func (w *Writer) Frame(kind Kind, payload []byte) error {
	if len(payload) > MaxFrame {
		return fmt.Errorf("a frame of %d bytes", len(payload))
	}
	n := len(payload)
	w.buf = append(w.buf[:0], byte(kind), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	w.buf = append(w.buf, payload...)
	_, err := w.w.Write(w.buf)
	return err
}

// Value writes v, an Info, an End or a Failure, as a frame.
func (w *Writer) Value(kind Kind, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.Frame(kind, payload)
}

// Write writes p as frames of data.
func (w *Writer) Write(p []byte) (n int, err error) {
	for n < len(p) {
		part := p[n:min(n+MaxFrame, len(p))]
		if err := w.Frame(KindData, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// Reader of frames.
type Reader struct {
	r      io.Reader
	header [headerSize]byte
	buf    []byte
}

// NewReader reads frames from r.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next returns a frame, whose payload is valid until the next call. A stream that ends
// within a frame, or between two, is io.ErrUnexpectedEOF or io.EOF: neither is how a
// side ends that has said everything.
func (r *Reader) Next() (Kind, []byte, error) {
	if _, err := io.ReadFull(r.r, r.header[:]); err != nil {
		return 0, nil, err
	}
	h := r.header
	n := int(h[1])<<24 | int(h[2])<<16 | int(h[3])<<8 | int(h[4])
	if n > MaxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes, more than %d", n, MaxFrame)
	}
	if cap(r.buf) < n {
		r.buf = make([]byte, n)
	}
	r.buf = r.buf[:n]
	if _, err := io.ReadFull(r.r, r.buf); err != nil {
		return 0, nil, fmt.Errorf("the middle of a frame: %w", noEOF(err))
	}
	return Kind(h[0]), r.buf, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
