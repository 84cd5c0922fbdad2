package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// endless is a state that does not end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, "          "), nil }

func TestRun(t *testing.T) {
	dir := t.TempDir()
	bundle := func(name, config string) string {
		must(t, os.MkdirAll(filepath.Join(dir, name, "rootfs"), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name, "config.json"), []byte(config), 0o644))
		return `{"ociVersion":"1.2.0","id":"a","status":"creating","pid":-1,"bundle":"` + filepath.Join(dir, name) + `"}`
	}
	relative := bundle("relative", `{"ociVersion":"1.1.0","root":{"path":"rootfs"}}`)
	const link = "create-symlinks --link t::/l"
	for _, c := range []struct {
		name, args, state string
		made              string // a link, below dir
		says, err         string
	}{
		{"a root in the bundle", link, relative, "relative/rootfs/l", "", ""},
		{"a root elsewhere", link, bundle("absolute", `{"root":{"path":"`+dir+`/other"}}`), "other/l", "", ""},
		{"the state says where", link, `{"bundle":"/none","root":"` + dir + `/other2"}`, "other2/l", "", ""},
		{"the state says where in the bundle", link, `{"bundle":"` + dir + `","root":"other3"}`, "other3/l", "", ""},
		{"NVIDIA's other program", "hook " + link, bundle("ctk", `{"root":{"path":"rootfs"}}`), "", "", ""},
		{"a hook of tomorrow", "of-tomorrow --x y", "no state", "", `unknown hook: "of-tomorrow"`, ""},
		{"no hook", "", "no state", "", "unknown hook", ""},
		{"a hook that is left out", "disable-device-node-modification", "no state", "", "", ""},
		{"bad flags", "create-symlinks --no", relative, "", "", "argument"},
		{"no state", link, "", "", "", "read the state"},
		{"no bundle", link, `{}`, "", "", "bundle"},
		{"a bundle that is not absolute", link, `{"bundle":"relative"}`, "", "", "not absolute"},
		{"no specification", link, `{"bundle":"` + dir + `/none"}`, "", "", "no such file"},
		{"no root", link, bundle("rootless", `{}`), "", "", "names no root"},
		{"the host's root", link, bundle("hosts", `{"root":{"path":"/"}}`), "", "", "the host's own"},
		{"a way to the host's root", link, bundle("up", `{"root":{"path":"../../../../../../../.."}}`), "", "", "the host's own"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, other := range []string{"other", "other2", "other3"} {
				must(t, os.MkdirAll(filepath.Join(dir, other), 0o755))
			}
			args := []string{"/usr/bin/nvidia-cdi-hook"}
			if strings.HasPrefix(c.args, "hook ") {
				args[0] = "nvidia-ctk"
			}
			var log strings.Builder
			err := run(append(args, strings.Fields(c.args)...), strings.NewReader(c.state), &log)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("got %v, want %q", err, c.err)
			}
			if (c.says == "") != (log.Len() == 0) || !strings.Contains(log.String(), c.says) {
				t.Errorf("it says %q, want %q", log.String(), c.says)
			}
			if target, err := os.Readlink(filepath.Join(dir, c.made)); c.made != "" && target != "t" {
				t.Errorf("%s leads to %q, %v", c.made, target, err)
			}
		})
	}
	if err := run([]string{"nvidia-cdi-hook", "create-symlinks"}, io.MultiReader(strings.NewReader(relative), endless{}), io.Discard); err == nil {
		t.Error("a state without an end is read")
	}
}
