package bundle

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHostileSpec: whatever lies where config.json should be is told from one, at once.
func TestHostileSpec(t *testing.T) {
	write := func(text string) func(path string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	for _, c := range []struct {
		name, want string
		make       func(path string) error
	}{
		{"nothing", "no such file", func(string) error { return nil }},
		{"a folder", "config.json is no regular file", func(p string) error { return os.Mkdir(p, 0o700) }},
		{"a FIFO", "config.json is no regular file", func(p string) error { return unix.Mkfifo(p, 0o600) }},
		{"a link to a device", "config.json is a link", func(p string) error { return os.Symlink("/dev/zero", p) }},
		{"a link to a spec", "config.json is a link", func(p string) error { return os.Symlink("testdata/defaults/ctr.json", p) }},
		{"an empty file", "EOF", write("")},
		{"half a spec", "unexpected EOF", write(`{"process":{`)},
		{"another type", "cannot unmarshal number", write(`{"process":{"args":7}}`)},
		{"more than a spec", "more than one JSON value", write(`{}{}`)},
		{"an unknown field", `unknown field "linx"`, write(`{"linx":{}}`)},
		{"deep nesting", "exceeded max depth", write(strings.Repeat(`[`, 1<<20))},
		{"sparse and huge", "longer than 16777216 bytes", func(p string) error {
			f, err := os.Create(p)
			if err != nil {
				return err
			}
			defer f.Close()
			return f.Truncate(1 << 40)
		}},
	} {
		dir := t.TempDir()
		if err := c.make(filepath.Join(dir, "config.json")); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, err := Bundle(dir).Spec()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%s: refused after %v", c.name, took)
		}
	}
}

// TestLargeSpec: a spec that is merely large is read.
func TestLargeSpec(t *testing.T) {
	dir := t.TempDir()
	var env strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&env, `"NAME_%d=value",`, i)
	}
	text := fmt.Sprintf(`{"process":{"args":["sh"],"cwd":"/","env":[%s"A=B"]}}`, env.String())
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	spec, err := Bundle(dir).Spec()
	if err != nil || len(spec.Process.Env) != 100_001 {
		t.Errorf("%v", err)
	}
}
