package secrets

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPutGetRemove(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	if err := Put(dir, "sb-1", map[string]string{"TOKEN": "a=b\n", "A": ""}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{dir: fs.ModeDir | 0o700, filepath.Join(dir, "sb-1"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	got, err := Get(dir, "sb-1")
	if diff := cmp.Diff([]string{"A=", "TOKEN=a=b\n"}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for range 2 {
		if err := Remove(dir, "sb-1"); err != nil {
			t.Error(err)
		}
	}
	if _, err := Get(dir, "sb-1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the removal: %v", err)
	}
}

func TestErrorsTellNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sb-1"), []byte(`{"TOKEN":"hush"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Get(dir, "sb-1"); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("%v; want an error without the secret", err)
	}
}

func TestSum(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	sum := func(dir string, values map[string]string) string {
		t.Helper()
		s, err := Sum(dir, values)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if got := sum(dir, nil); got != "" {
		t.Errorf("of none: %q", got)
	}
	of := sum(dir, map[string]string{"A": "1", "B": "2"})
	if again := sum(dir, map[string]string{"B": "2", "A": "1"}); again != of {
		t.Errorf("%s, then %s", of, again)
	}
	for _, other := range []map[string]string{{"A": "1", "B": "3"}, {"A": "1B", "": "2"}, {"A": "1"}, {"A": "12", "B": ""}} {
		if sum(dir, other) == of {
			t.Errorf("%v has the same sum", other)
		}
	}
	if sum(filepath.Join(t.TempDir(), "another"), map[string]string{"A": "1", "B": "2"}) == of {
		t.Error("without the key it can be tried out")
	}
	if err := os.Truncate(filepath.Join(dir, keyFile), 5); err != nil {
		t.Fatal(err)
	}
	if _, err := Sum(dir, map[string]string{"A": "1"}); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("with half a key: %v", err)
	}
}

func TestOneKeyForAll(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "secrets")
	sums := make(chan string)
	for range 8 {
		go func() {
			s, err := Sum(dir, map[string]string{"A": "1"})
			if err != nil {
				s = err.Error()
			}
			sums <- s
		}()
	}
	first := <-sums
	for range 7 {
		if s := <-sums; s != first {
			t.Errorf("%s and %s", first, s)
		}
	}
}
