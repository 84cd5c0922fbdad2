package runsc

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
)

// Failure of a runsc command.
type Failure struct {
	Op      string // create, start, delete, …
	ID      string // of the sandbox
	Message string // the cause, as runsc wrote it
	Log     string // the end of all it wrote
	Err     error  // the exit status, or why it did not run
}

func newFailure(op, id string, err error, logged, stderr string) *Failure {
	f := &Failure{Op: op, ID: id, Err: err, Log: strings.TrimSpace(logged + stderr)}
	if f.Message = cause(logged); f.Message == "" {
		f.Message = lastLine(stderr)
	}
	f.Message = printable(f.Message)
	return f
}

// messageBytes bounds a message: an error of megabytes fits no answer to containerd, which
// takes that for the shim's end.
const messageBytes = 4 << 10

// printable is what a user is shown of a text in which a sentry had a hand: one line,
// without what a terminal would obey.
func printable(text string) string {
	text = strings.ToValidUTF8(text[:min(len(text), messageBytes)], "?")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}

// Error is the one line that a user reads.
func (f *Failure) Error() string {
	if f.Message == "" {
		return fmt.Sprintf("runsc %s %s: %v", f.Op, f.ID, f.Err)
	}
	return fmt.Sprintf("runsc %s %s: %s (%v)", f.Op, f.ID, f.Message, f.Err)
}

// Unwrap gives the exit status or the reason why runsc did not run.
func (f *Failure) Unwrap() error { return f.Err }

// Format adds runsc's log on %+v.
func (f *Failure) Format(s fmt.State, verb rune) {
	_, _ = io.WriteString(s, f.Error())
	if verb == 'v' && s.Flag('+') && f.Log != "" {
		_, _ = io.WriteString(s, "\n"+f.Log)
	}
}

// cause finds the first error in runsc's JSON log, whose entries no newline separates.
// runsc, its gofer and the sentry write to one log: the first to fail says why, and
// the others that a child of theirs is gone. Without such an entry it is the last line.
func cause(logged string) string {
	entries := json.NewDecoder(strings.NewReader(logged[max(0, strings.Index(logged, `{"msg":`)):]))
	for {
		var entry struct{ Msg, Level string }
		if entries.Decode(&entry) != nil {
			return lastLine(logged)
		}
		if entry.Level == "error" && entry.Msg != "" {
			return strings.TrimSpace(entry.Msg)
		}
	}
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:])
}

// tailBytes bounds what is kept of a log: its end says why runsc stopped.
const tailBytes = 16 << 10

// tail is a writer that keeps the last tailBytes.
type tail []byte

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	if over := len(*t) - tailBytes; over > 0 {
		*t = append((*t)[:0], (*t)[over:]...)
	}
	return len(p), nil
}

// readTail returns the end of the file at path, or nothing if there is none.
func readTail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.Size() > tailBytes {
		if _, err := f.Seek(-tailBytes, io.SeekEnd); err != nil {
			return ""
		}
	}
	b, _ := io.ReadAll(io.LimitReader(f, tailBytes)) // what could be read is better than nothing
	return string(b)
}
