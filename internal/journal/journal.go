// Package journal keeps the output of a program in a file of bounded size whose
// offsets are the stream's own: byte n of the stream is byte n of the file. The
// writer appends and drops the oldest bytes by punching holes, so the file only
// ever grows in length while the space it takes stays bounded. A reader may
// therefore come back after any crash, of itself or of the writer, and continue
// at the offset it had reached.
//
// One Writer per file, which makes the file and never opens an existing one; any
// number of Readers, in any process. A Reader never returns bytes of a hole: where
// the bytes it is asked for are gone it answers from the oldest kept byte on and
// says so. The file does not record that a stream has ended: whoever knows that the
// program has ended (its exit status is on record) knows that no byte will follow.
//
// One value is not safe for concurrent use, but for Close.
package journal

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
)

// Scheme of the URI that names a journal as a stream of a task.
const Scheme = "journal"

// Chunk is the granularity in which old bytes are dropped: a journal keeps at
// least its bound and less than its bound and one Chunk. It is a multiple of every
// block size in use, because a hole within a block frees nothing.
const Chunk = 64 << 10

// Spec says where a journal is and how much it keeps.
type Spec struct {
	Path string // absolute and clean
	Max  int64  // bytes kept at least, if so many were written; at least Chunk
}

// URI writes s as ParseURI reads it.
func (s Spec) URI() string {
	return (&url.URL{Scheme: Scheme, Path: s.Path, RawQuery: "max=" + strconv.FormatInt(s.Max, 10)}).String()
}

// ParseURI accepts exactly journal:///abs/path?max=BYTES.
func ParseURI(uri string) (Spec, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return Spec{}, fmt.Errorf("parse journal URI: %w", err)
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Spec{}, fmt.Errorf("journal URI %q: %w", uri, err)
	}
	if u.Scheme != Scheme || u.Host != "" || u.User != nil || u.Fragment != "" || len(q) != 1 || len(q["max"]) != 1 {
		return Spec{}, fmt.Errorf("journal URI %q: want journal:///path?max=BYTES", uri)
	}
	max, err := strconv.ParseInt(q.Get("max"), 10, 64)
	if err != nil {
		return Spec{}, fmt.Errorf("journal URI %q: max: %w", uri, err)
	}
	s := Spec{Path: u.Path, Max: max}
	return s, s.check()
}

func (s Spec) check() error {
	if !filepath.IsAbs(s.Path) || filepath.Clean(s.Path) != s.Path {
		return fmt.Errorf("journal %q: want a clean absolute path", s.Path)
	}
	if s.Max < Chunk {
		return fmt.Errorf("journal %q: max is %d, want at least %d", s.Path, s.Max, Chunk)
	}
	return nil
}
