package guest

import (
	"io"
	"time"

	"brig/nodeagent/files/wire"
)

// input is the data that brigd sends; only the end that it says is io.EOF.
type input struct {
	from   io.Closer
	frames *wire.Reader
	rest   []byte
	ended  bool
}

// Read returns a failure if the stream ends before it is said to, or if nothing comes
// for too long.
func (i *input) Read(p []byte) (int, error) {
	for len(i.rest) == 0 {
		if i.ended {
			return 0, io.EOF
		}
		kind, payload, err := i.next()
		switch {
		case err != nil:
			return 0, &wire.Failure{Class: wire.Aborted, Text: "the transfer was broken off: " + err.Error()}
		case kind == wire.KindData:
			i.rest = payload
		case kind == wire.KindEnd:
			i.ended = true
		default:
			return 0, &wire.Failure{Class: wire.Aborted, Text: "the transfer was broken off"}
		}
	}
	n := copy(p, i.rest)
	i.rest = i.rest[n:]
	return n, nil
}

func (i *input) next() (wire.Kind, []byte, error) {
	silence := time.AfterFunc(wire.Silence, func() { _ = i.from.Close() })
	defer silence.Stop()
	return i.frames.Next()
}
