package journal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func newLate(t *testing.T) (*Writer, Spec) {
	t.Helper()
	s := Spec{Path: filepath.Join(t.TempDir(), "out"), Max: 2 * Chunk, Block: true, Late: true}
	w, err := Create(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w, s
}

func holds(t *testing.T, s Spec, want string) {
	t.Helper()
	if got, err := os.ReadFile(s.Path); err != nil || string(got) != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

func TestLate(t *testing.T) {
	w, s := newLate(t)
	if _, err := os.Lstat(s.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("before the first byte: %v", err)
	}
	for _, word := range []string{"one ", "two"} {
		if n, err := w.Write([]byte(word)); n != len(word) || err != nil {
			t.Fatal(n, err)
		}
	}
	holds(t, s, "one two")
}

// A Reader may come before the first byte.
func TestAwait(t *testing.T) {
	w, s := newLate(t)
	for range 2 {
		if err := Await(s); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Open(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	woken := make(chan error, 1)
	go func() { woken <- r.Wait(t.Context(), 0) }()
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-woken; err != nil {
		t.Error(err)
	}
	if err := Await(s); err != nil {
		t.Error(err)
	}
	holds(t, s, "x")
}

// What is closed makes nothing: its folder may be somebody else's by then.
func TestLateAndClosed(t *testing.T) {
	w, s := newLate(t)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if n, err := w.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after Close: %d, %v", n, err)
	}
	if _, err := os.Lstat(s.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
}

// A stream does not continue what is there, nor is it lost before Close.
func TestLateAndTaken(t *testing.T) {
	for name, take := range map[string]func(path string) error{
		"a stream": func(path string) error { return os.WriteFile(path, []byte("others"), 0o600) },
		"a link":   func(path string) error { return os.Symlink("/dev/null", path) },
		"a folder": func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		w, s := newLate(t)
		if err := take(s.Path); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { _, err := w.Write([]byte("x")); done <- err }()
		select {
		case err := <-done:
			t.Errorf("%s was taken: %v", name, err)
		default:
		}
		if name == "a stream" {
			holds(t, s, "others")
		}
		if err := os.Remove(s.Path); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("%s has gone: %v", name, err)
		}
		holds(t, s, "x")
	}
}

func TestLateURI(t *testing.T) {
	s := Spec{Path: "/a", Max: 2 * Chunk, Block: true, Late: true}
	if got, err := ParseURI(s.URI()); got != s || err != nil {
		t.Errorf("%s: %+v, %v", s.URI(), got, err)
	}
	for _, bad := range []string{"journal:///a?max=131072&late=true", "journal:///a?max=131072&overflow=block&late=1", "journal:///a?max=131072&overflow=block&late=true&late=true"} {
		if s, err := ParseURI(bad); err == nil {
			t.Errorf("%s: %+v", bad, s)
		}
	}
}
