package task

import (
	"os"
	"path/filepath"
	"testing"

	"brig/internal/journal"
	"brig/shim/stdio"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestTerminalSize: the spec says it, of the program and of an exec; or a resize does
// that comes before the exec's start, as nerdctl's and ctr's do.
func TestTerminalSize(t *testing.T) {
	f := setUp(t, "/bin/sh", "-c", "stty size; exec sleep 60")
	terminal := func() (journal.Spec, stdio.Config) {
		out := journal.Spec{Path: filepath.Join(t.TempDir(), "out"), Max: journal.Chunk}
		return out, stdio.Config{Stdout: out.URI(), Terminal: true}
	}
	check := func(what string, out journal.Spec, want string) {
		t.Helper()
		if b, err := os.ReadFile(out.Path); err != nil || string(b) != want+"\r\n" {
			t.Errorf("%s: got %q, %v; want %s", what, b, err, want)
		}
	}
	program, streams := terminal()
	f.request.Streams = streams
	f.spec.Process.Terminal, f.spec.Process.ConsoleSize = true, &specs.Box{Width: 91, Height: 31}
	f.must(f.create())
	f.must(f.start())
	f.waitForOutput(program)
	check("program", program, "31 91")
	id, stty := f.request.ID, specs.Process{Args: []string{"stty", "size"}, Cwd: "/", Env: []string{"PATH=/bin:/usr/bin"}}
	for _, c := range []struct {
		name   string
		spec   *specs.Box
		resize bool
		want   string
	}{
		{"spec", &specs.Box{Width: 92, Height: 32}, false, "32 92"},
		{"resize", nil, true, "33 93"},
		{"both", &specs.Box{Width: 92, Height: 32}, true, "33 93"},
		{"neither", nil, false, "0 0"},
	} {
		out, streams := terminal()
		stty.ConsoleSize = c.spec
		f.must(f.AddExec(id, c.name, &stty, streams))
		if c.resize {
			f.must(f.Resize(t.Context(), id, c.name, 93, 33))
		}
		_, err := f.StartExec(t.Context(), id, c.name)
		f.must(err)
		f.wait(c.name)
		check(c.name, out, c.want)
	}
	f.must(f.AddExec(id, "pipes", &stty, stdio.Config{}))
	if err := f.Resize(t.Context(), id, "pipes", 93, 33); err == nil {
		t.Error("pipes were resized")
	}
}
