package journal

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
)

// Scheme of the URIs that name journals as streams of a task.
const Scheme = "journal"

// Spec says where a journal of output is, how much it keeps, and what becomes of more.
type Spec struct {
	Path string // absolute and clean
	// Max is how many bytes are kept, if so many were written: less than another
	// sixteenth or Chunk more if the oldest are dropped, not one more if the Writer waits.
	// At least Chunk; two with Block.
	Max int64
	// Block makes the Writer wait for Readers instead of dropping the oldest bytes.
	Block bool
	// Late has the Writer make the file with the first byte, or take an empty one that a
	// reader made (Await): most programs write to one stream at most, and a file is much of
	// what running one costs. With Block alone: a disk that takes no file is tried again.
	Late bool
}

// URI writes s as ParseURI reads it.
func (s Spec) URI() string {
	q := "max=" + strconv.FormatInt(s.Max, 10)
	if s.Block {
		q += "&overflow=block"
	}
	if s.Late {
		q += "&late=true"
	}
	return (&url.URL{Scheme: Scheme, Path: s.Path, RawQuery: q}).String()
}

// ParseURI accepts exactly journal:///abs/path?max=BYTES, with &overflow=block if the
// Writer is to wait, and then &late=true if the file comes with the first byte.
func ParseURI(uri string) (Spec, error) {
	path, q, err := parse(uri)
	if err != nil {
		return Spec{}, err
	}
	s := Spec{Path: path, Block: q.Get("overflow") == "block", Late: q.Get("late") == "true"}
	blocks, late := one(s.Block), one(s.Late)
	if len(q) != 1+blocks+late || len(q["max"]) != 1 || len(q["overflow"]) != blocks || len(q["late"]) != late {
		return Spec{}, fmt.Errorf("journal URI %q: want journal:///path?max=BYTES, and after it &overflow=block, and after that &late=true, or not", uri)
	}
	if s.Max, err = strconv.ParseInt(q.Get("max"), 10, 64); err != nil {
		return Spec{}, fmt.Errorf("journal URI %q: max: %w", uri, err)
	}
	return s, s.check()
}

func one(is bool) int {
	if is {
		return 1
	}
	return 0
}

// InputURI names the Input at path, which is absolute and clean.
func InputURI(path string) string { return (&url.URL{Scheme: Scheme, Path: path}).String() }

// ParseInputURI accepts exactly journal:///abs/path.
func ParseInputURI(uri string) (path string, err error) {
	path, q, err := parse(uri)
	if err != nil {
		return "", err
	}
	if len(q) > 0 {
		return "", fmt.Errorf("journal URI %q: an input is journal:///path, without a query", uri)
	}
	return path, checkPath(path)
}

func parse(uri string) (path string, q url.Values, err error) {
	u, err := url.Parse(uri)
	if err != nil {
		return "", nil, fmt.Errorf("parse journal URI: %w", err)
	}
	if q, err = url.ParseQuery(u.RawQuery); err != nil {
		return "", nil, fmt.Errorf("journal URI %q: %w", uri, err)
	}
	if u.Scheme != Scheme || u.Host != "" || u.User != nil || u.Fragment != "" {
		return "", nil, fmt.Errorf("journal URI %q: want journal:// and an absolute path", uri)
	}
	return u.Path, q, nil
}

func (s Spec) check() error {
	if least := s.least(); s.Max < least {
		return fmt.Errorf("journal %q: max is %d, want at least %d", s.Path, s.Max, least)
	}
	if s.Late && !s.Block {
		return fmt.Errorf("journal %q: only one that blocks can come late", s.Path)
	}
	return checkPath(s.Path)
}

func (s Spec) least() int64 {
	if s.Block {
		return 2 * Chunk // else all could be read and nothing released
	}
	return Chunk
}

func checkPath(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return fmt.Errorf("journal %q: want a clean absolute path", path)
	}
	return nil
}

// Read is how much may be released (Reader.Release) of a journal with Block when all up
// to sent was sent to a reader. Keep is left, or half of a small journal: something must
// be released before the journal is full.
func (s Spec) Read(sent int64) (upTo int64) {
	return max(0, sent-min(Keep, s.Max/2)) / s.step() * s.step()
}

// step is how much is dropped at once, at least: a hole has its cost.
func (s Spec) step() int64 { return max(Chunk, chunks(min(s.Max/16, 16*Chunk))) }
