package files

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"brig/nodeagent/files/wire"
)

// nonsense is an answer that brig-files does not give.
func nonsense(what string) error {
	return errdefs.ErrAborted.WithMessage("the sandbox broke off the call: it answered " + what)
}

// classes of failures. Of a sandbox no other is believed: the rest would be brigd's.
var classes = map[wire.Class]interface{ WithMessage(string) error }{
	wire.NotFound:     errdefs.ErrNotFound,
	wire.Exists:       errdefs.ErrAlreadyExists,
	wire.Denied:       errdefs.ErrPermissionDenied,
	wire.Precondition: errdefs.ErrFailedPrecondition,
	wire.Invalid:      errdefs.ErrInvalidArgument,
	wire.Exhausted:    errdefs.ErrResourceExhausted,
	wire.Aborted:      errdefs.ErrAborted,
}

// failed makes an error of a frame of failure.
func failed(payload []byte) error {
	var f wire.Failure
	if err := strict(payload, &f); err != nil {
		return nonsense("with an error that cannot be read")
	}
	class, ok := classes[f.Class]
	if !ok {
		return nonsense(fmt.Sprintf("with an error of the class %.30q", f.Class))
	}
	return class.WithMessage("in the sandbox: " + printable(f.Text))
}

// maxText is how much of a sandbox's words is passed on.
const maxText = 500

// printable makes one harmless line of a sandbox's words.
func printable(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "…"
	}
	var line strings.Builder
	for _, r := range strings.TrimSpace(s) {
		if strconv.IsPrint(r) {
			line.WriteRune(r)
		} else {
			fmt.Fprintf(&line, "\\x%02x", r)
		}
	}
	return line.String()
}

func parseInfo(payload []byte) (Info, error) {
	var i wire.Info
	if err := strict(payload, &i); err != nil {
		return Info{}, nonsense("with a file that cannot be read")
	}
	if err := i.Check(); err != nil {
		return Info{}, nonsense("with " + err.Error())
	}
	return Info{
		Name: i.Name, Type: i.Type, Size: i.Size, Mode: i.Mode,
		Modified: time.Unix(i.MTime, i.MNanos).UTC(), UID: i.UID, GID: i.GID, Target: i.Target,
	}, nil
}

// parseEnd reads the last frame, which is an end or a failure.
func parseEnd(kind wire.Kind, payload []byte) (wire.End, error) {
	var end wire.End
	switch kind {
	case wire.KindFailure:
		return end, failed(payload)
	case wire.KindEnd:
		if err := strict(payload, &end); err != nil {
			return end, nonsense("with an end that cannot be read")
		}
		return end, nil
	}
	return end, nonsense(fmt.Sprintf("out of turn, with %.10q", byte(kind)))
}

func strict(payload []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}
